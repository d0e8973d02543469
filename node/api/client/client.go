// Package client speaks the admin API of a node, in the types of node/api.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"sallyport/crypto"
)

// maxAnswer bounds what a node may answer, in bytes.
const maxAnswer = 64 << 20

// Client asks one node. It follows no redirects: the token is for that node.
type Client struct {
	origin    string
	token     crypto.Secret
	transport http.RoundTripper
}

// New makes a client of the node at origin, such as https://127.0.0.1:8443, with an admin token. The caller has made sure that the
// token can be sent there.
func New(origin string, token crypto.Secret, transport http.RoundTripper) *Client {
	return &Client{origin: strings.TrimSuffix(origin, "/"), token: token, transport: transport}
}

// Error is a refusal by the node, from its problem document (RFC 9457).
type Error struct {
	Status  int // of HTTP
	Detail  string
	Details []Detail
}

// Detail is one of several things that are wrong with a request.
type Detail struct {
	Message  string `json:"message"`
	Location string `json:"location"` // such as body.spec.url
}

// Error says what the node said, a line for each detail.
func (e *Error) Error() string {
	text := e.Detail
	if text == "" {
		text = strings.ToLower(http.StatusText(e.Status))
	}
	for _, d := range e.Details {
		text += "\n  "
		if field := strings.TrimPrefix(strings.TrimPrefix(d.Location, "body"), "."); field != "" {
			text += field + ": "
		}
		text += d.Message
	}
	return text
}

// IsNotFound tells whether the node answered that something does not exist.
func IsNotFound(err error) bool { return hasStatus(err, http.StatusNotFound) }

// IsConflict tells whether a write came too late for the state that it expected.
func IsConflict(err error) bool { return hasStatus(err, http.StatusPreconditionFailed) }

func hasStatus(err error, status int) bool {
	var refused *Error
	return errors.As(err, &refused) && refused.Status == status
}

// request is one question.
type request struct {
	method string
	path   string // escaped
	query  url.Values
	header http.Header
	body   []byte // JSON, nil for none
}

// send returns the answer if it is one of success; the caller closes its body.
func (c *Client) send(ctx context.Context, q request) (*http.Response, error) {
	address := c.origin + q.path
	if len(q.query) > 0 {
		address += "?" + q.query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, q.method, address, bytes.NewReader(q.body))
	if err != nil {
		return nil, fmt.Errorf("ask the node: %w", err)
	}
	if len(q.body) == 0 {
		r.Body, r.GetBody = http.NoBody, nil
	}
	for name, values := range q.header {
		r.Header[name] = values
	}
	if q.body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Authorization", "Bearer "+c.token.ExposeString())
	resp, err := c.transport.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("reach the node at %s: %w", c.origin, err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, refusal(resp)
}

func refusal(resp *http.Response) error {
	refused := &Error{Status: resp.StatusCode}
	if mediaType, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); mediaType != "application/problem+json" {
		refused.Detail = fmt.Sprintf("the answer is no answer of the admin API (%s): check the address", resp.Status)
		return refused
	}
	var problem struct {
		Detail string   `json:"detail"`
		Errors []Detail `json:"errors"`
	}
	if err := decode(resp.Body, &problem); err != nil {
		return err
	}
	refused.Detail, refused.Details = problem.Detail, problem.Errors
	return refused
}

// ask sends a question and reads the answer into a T.
func ask[T any](ctx context.Context, c *Client, q request) (answer T, header http.Header, err error) {
	resp, err := c.send(ctx, q)
	if err != nil {
		return answer, nil, err
	}
	defer resp.Body.Close()
	return answer, resp.Header, decode(resp.Body, &answer)
}

// post sends a body and reads the answer into a T.
func post[T any](ctx context.Context, c *Client, path string, body any) (answer T, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return answer, fmt.Errorf("write the request: %w", err)
	}
	answer, _, err = ask[T](ctx, c, request{method: http.MethodPost, path: path, body: text})
	return answer, err
}

func decode(body io.Reader, into any) error {
	text, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the node's answer: %w", err)
	case len(text) > maxAnswer:
		return errors.New("read the node's answer: it is larger than 64 MiB")
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read the node's answer: %w", err)
	}
	return nil
}
