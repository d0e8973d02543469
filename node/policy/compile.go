package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/eval"

	"sallyport/raftfsm"
)

// MaxBytes bounds the text of one policy.
const MaxBytes = 64 << 10

// compiled is the policies at one moment. It is immutable.
type compiled struct {
	set   *cedar.PolicySet
	asts  []*ast.Policy
	watch raftfsm.Watch
	// read are the attribute names that policies speak of, by their lower case.
	read map[string][]string
	// broken is why nothing may be decided: a stored policy that this version cannot read may be one that forbids.
	broken error
}

func compile(v raftfsm.View) *compiled {
	c := &compiled{set: cedar.NewPolicySet(), watch: v.WatchPolicies(), read: map[string][]string{}}
	for p := range v.Policies() {
		list, err := parse(p.Name, p.Cedar)
		if err != nil {
			c.broken = fmt.Errorf("policy %s: %w", p.Name, err)
			return c
		}
		for i, one := range list {
			id := p.Name
			if len(list) > 1 {
				id = fmt.Sprintf("%s#%d", p.Name, i+1)
			}
			c.set.Add(cedar.PolicyID(id), one)
			tree := (*ast.Policy)(one.AST())
			c.asts = append(c.asts, tree)
			c.note(tree)
		}
	}
	return c
}

// note remembers the attribute names that a policy reads.
func (c *compiled) note(p *ast.Policy) {
	ast.Inspect(eval.PolicyToNode(p), func(n ast.IsNode) bool {
		var name string
		switch v := n.(type) {
		case ast.NodeTypeAccess:
			name = string(v.Value)
		case ast.NodeTypeHas:
			name = string(v.Value)
		default:
			return true
		}
		if key := strings.ToLower(name); !slices.Contains(c.read[key], name) {
			c.read[key] = append(c.read[key], name)
		}
		return true
	})
}

func parse(name, text string) (cedar.PolicyList, error) {
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("it has %d bytes, more than %d: split it", len(text), MaxBytes)
	}
	list, err := cedar.NewPolicyListFromBytes(name, []byte(text))
	if err != nil {
		return nil, errors.New(strings.ReplaceAll(strings.TrimPrefix(err.Error(), "parser error: "), "<input>", name))
	}
	if len(list) == 0 {
		return nil, errEmpty
	}
	for _, p := range list {
		if err := checkNames((*ast.Policy)(p.AST())); err != nil {
			at := p.Position()
			return nil, fmt.Errorf("%s:%d:%d: %w", name, at.Line, at.Column, err)
		}
	}
	return list, nil
}

// checkNames refuses entity types and actions that no request ever has: a forbid with a typing error would forbid nothing.
func checkNames(p *ast.Policy) (err error) {
	ast.Inspect(eval.PolicyToNode(p), func(n ast.IsNode) bool {
		switch v := n.(type) {
		case ast.NodeValue:
			err = firstError(err, checkValue(v.Value))
		case ast.NodeTypeIs:
			err = firstError(err, checkType(v.EntityType))
		case ast.NodeTypeIsIn:
			err = firstError(err, checkType(v.EntityType))
		}
		return err == nil
	})
	return err
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func checkValue(v types.Value) error {
	switch v := v.(type) {
	case types.EntityUID:
		if v.Type == typeAction && !slices.Contains(actions(), string(v.ID)) {
			return fmt.Errorf("there is no action %q: actions are %s", v.ID, strings.Join(actions(), ", "))
		}
		return checkType(v.Type)
	case types.Set:
		for item := range v.All() {
			if err := checkValue(item); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkType(t types.EntityType) error {
	if !slices.Contains(entityTypes(), t) {
		return fmt.Errorf("there is no entity type %q: types are %s", t, joinTypes())
	}
	return nil
}

func joinTypes() string {
	var names []string
	for _, t := range entityTypes() {
		names = append(names, string(t))
	}
	return strings.Join(names, ", ")
}
