package policy

import (
	"github.com/cedar-policy/cedar-go/types"
)

const (
	typeAgent    types.EntityType = "Agent"
	typeRole     types.EntityType = "Role"
	typeUser     types.EntityType = "User"
	typeGroup    types.EntityType = "Group"
	typeTool     types.EntityType = "Tool"
	typePrompt   types.EntityType = "Prompt"
	typeResource types.EntityType = "Resource"
	typeUpstream types.EntityType = "Upstream"
	typeAction   types.EntityType = "Action"

	attrArguments types.String = "arguments"
)

func entityTypes() []types.EntityType {
	return []types.EntityType{typeAgent, typeRole, typeUser, typeGroup, typeTool, typePrompt, typeResource, typeUpstream, typeAction}
}

// actions are the MCP methods that touch one item. The others decide as one of these.
func actions() []string { return []string{"tools/call", "prompts/get", "resources/read"} }

// resourceUID names the item of a request.
func resourceUID(r Request) types.EntityUID {
	t := typeTool
	switch r.Action {
	case "prompts/get":
		t = typePrompt
	case "resources/read":
		t = typeResource
	}
	return types.NewEntityUID(t, types.String(r.Upstream+"/"+r.Item))
}

// entities answers Cedar's questions about the parents of what one request speaks of.
type entities struct{ r Request }

// Get implements types.EntityGetter.
func (e entities) Get(uid types.EntityUID) (types.Entity, bool) {
	switch {
	case uid.Type == typeAgent && string(uid.ID) == e.r.Agent:
		parents := make([]types.EntityUID, len(e.r.Roles))
		for i, role := range e.r.Roles {
			parents[i] = types.NewEntityUID(typeRole, types.String(role))
		}
		return types.Entity{UID: uid, Parents: types.NewEntityUIDSet(parents...)}, true
	case uid == resourceUID(e.r):
		upstream := types.NewEntityUID(typeUpstream, types.String(e.r.Upstream))
		return types.Entity{UID: uid, Parents: types.NewEntityUIDSet(upstream)}, true
	}
	return types.Entity{}, false
}
