package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"sallyport/node/api"
	"sallyport/node/api/kind"
)

// Put says how to write a resource.
type Put struct {
	DryRun bool
	// IfMatch is the ETag that the resource must have; empty for any, or none.
	IfMatch string
}

// Applied is what a write came to.
type Applied struct {
	Outcome       api.Outcome
	SecretChanged bool
	Resource      kind.Resource // as it stands now, or would stand
}

// Put creates or replaces a resource. Its secrets go along, in clear, inside of TLS.
func (c *Client) Put(ctx context.Context, r kind.Resource, how Put) (Applied, error) {
	body, err := kind.Reveal(r)
	if err != nil {
		return Applied{}, err
	}
	q := request{method: http.MethodPut, path: resourcePath(r.Head().Kind, r.Head().Metadata.Name), body: body, query: url.Values{}, header: http.Header{}}
	if how.DryRun {
		q.query.Set("dryRun", "true")
	}
	if how.IfMatch != "" {
		q.header.Set("If-Match", how.IfMatch)
	}
	answer, _, err := ask[api.Applied[json.RawMessage]](ctx, c, q)
	if err != nil {
		return Applied{}, err
	}
	resource, err := read(r.Head().Kind, answer.Resource)
	return Applied{Outcome: answer.Outcome, SecretChanged: answer.SecretChanged, Resource: resource}, err
}

// Get reads a resource and its ETag.
func (c *Client) Get(ctx context.Context, k kind.Kind, name string) (kind.Resource, string, error) {
	text, header, err := ask[json.RawMessage](ctx, c, request{method: http.MethodGet, path: resourcePath(k, name)})
	if err != nil {
		return nil, "", err
	}
	resource, err := read(k, &text)
	return resource, header.Get("ETag"), err
}

// List reads all resources of a kind, by name.
func (c *Client) List(ctx context.Context, k kind.Kind) ([]kind.Resource, error) {
	answer, _, err := ask[api.List[json.RawMessage]](ctx, c, request{method: http.MethodGet, path: "/v1/" + k.Plural()})
	if err != nil {
		return nil, err
	}
	list := make([]kind.Resource, 0, len(answer.Items))
	for _, text := range answer.Items {
		r, err := read(k, text)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

// Delete deletes a resource.
func (c *Client) Delete(ctx context.Context, k kind.Kind, name string) error {
	resp, err := c.send(ctx, request{method: http.MethodDelete, path: resourcePath(k, name)})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func resourcePath(k kind.Kind, name string) string {
	return "/v1/" + k.Plural() + "/" + url.PathEscape(name)
}

// read is lenient: a newer node may say more than this client knows.
func read(k kind.Kind, text *json.RawMessage) (kind.Resource, error) {
	r, err := kind.New(k)
	if err != nil {
		return nil, err
	}
	if text == nil {
		return nil, fmt.Errorf("read the node's answer: it holds no %s", k)
	}
	if err := json.Unmarshal(*text, r); err != nil {
		return nil, fmt.Errorf("read the node's answer: %w", err)
	}
	return r, nil
}
