package gateway

import (
	"net/http"
	"slices"

	"sallyport/node/mcp"
	"sallyport/node/policy"
)

// authorize decides whether the caller may do what the message asks for.
func (c *call) authorize() bool {
	if len(c.caller.Token.Upstreams) > 0 && !slices.Contains(c.caller.Token.Upstreams, c.upstream.Name) {
		return c.deny("this gateway token is not for upstream "+c.upstream.Name, "use a token that is")
	}
	if c.msg == nil || c.msg.Kind == mcp.Response {
		return c.authorizeUpstream()
	}
	questions, known := c.questions()
	if !known {
		return c.unknownMethod()
	}
	if c.msg.HasTask {
		return c.reject(http.StatusOK, mcp.CodeInvalidParams, "tasks are not supported through this gateway: call without `task`")
	}
	if len(questions) == 0 {
		return c.authorizeUpstream()
	}
	for _, q := range questions {
		if c.decision = c.Policies.Check(q); !c.decision.Allowed {
			return c.denyByPolicy(q)
		}
	}
	return true
}

// authorizeUpstream lets those pass who may use anything of the upstream: its lists are filtered, but an agent without any right does not
// reach it.
func (c *call) authorizeUpstream() bool {
	if c.Policies.MayUse(c.question("", "")) {
		c.decision.Allowed = true
		return true
	}
	return c.deny("no policy permits agent "+c.caller.Agent.Name+" anything on upstream "+c.upstream.Name, "ask an operator for a policy that does")
}

func (c *call) question(action, item string) policy.Request {
	return policy.Request{
		Agent: c.caller.Agent.Name, Roles: c.caller.Agent.Roles, Action: action, Upstream: c.upstream.Name, Item: item,
	}
}

// questions are the decisions that a message needs; none for methods that touch no item. known is false for methods that this version does
// not know: they are not forwarded.
func (c *call) questions() (_ []policy.Request, known bool) {
	m := c.msg
	switch m.Method {
	case "tools/call", "prompts/get":
		q := c.question(m.Method, m.Name)
		q.Arguments = m.Arguments
		return []policy.Request{q}, true
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		return []policy.Request{c.question("resources/read", m.URI)}, !c.modern || m.Method == "resources/read"
	case "completion/complete":
		if m.Ref.Type == "ref/resource" {
			return []policy.Request{c.question("resources/read", m.Ref.URI)}, true
		}
		return []policy.Request{c.question("prompts/get", m.Ref.Name)}, true
	case "subscriptions/listen":
		var out []policy.Request
		for _, uri := range m.Subscriptions {
			out = append(out, c.question("resources/read", uri))
		}
		return out, c.modern
	case "tools/list", "prompts/list", "resources/list", "resources/templates/list":
		return nil, true
	case "server/discover":
		return nil, c.modern
	case "initialize", "ping", "logging/setLevel", "notifications/initialized", "notifications/roots/list_changed":
		return nil, !c.modern
	case "notifications/cancelled", "notifications/progress":
		return nil, true
	}
	return nil, false
}

func (c *call) unknownMethod() bool {
	const text = "this gateway does not know the method, and forwards nothing that it cannot decide on"
	if c.modern {
		return c.reject(http.StatusNotFound, mcp.CodeMethodNotFound, text)
	}
	return c.fail("refused", mcp.CodeMethodNotFound, text, "use a method of the protocol version that the session has")
}

func (c *call) denyByPolicy(q policy.Request) bool {
	advice := "ask an operator to change the policy"
	if c.decision.Missing != "" {
		advice = "ask an operator for a policy such as: " + c.decision.Missing
	}
	what := q.Upstream + "/" + q.Item
	return c.deny(c.caller.Agent.Name+" may not "+q.Action+" "+what+": "+c.decision.Reason(), advice)
}

// deny records the refusal and answers it.
func (c *call) deny(text, advice string) bool {
	c.decision.Allowed = false
	c.recordDenial(text)
	return c.fail("denied", mcp.CodeDenied, text, advice)
}
