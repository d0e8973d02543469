package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"sallyport/crypto"
)

const (
	mcpVersion = "2026-07-28"
	maxAnswer  = 1 << 20
	callTime   = 30 * time.Second
)

// agent makes MCP requests as any program would that holds one gateway token
// and nothing else.
type agent struct {
	name    string
	token   crypto.Secret
	tokenID string            // by which the token is known without being shown
	gateway string            // base URL of the node
	http    http.RoundTripper // reaches the node and trusts its certificate
}

// request is one MCP request of an agent.
type request struct {
	upstream string
	method   string
	name     string // of the tool; empty for methods without one
	params   map[string]any
}

func toolCall(upstream, tool string, arguments map[string]any) request {
	return request{upstream, "tools/call", tool, map[string]any{"name": tool, "arguments": arguments}}
}

// answer is what came back for it.
type answer struct {
	status   int
	protocol string // HTTP version
	took     time.Duration
	result   json.RawMessage
	failure  *rpcError
	problem  string // detail of a problem document (RFC 9457)
	received []byte // everything the agent got to see: header and body
}

// rpcError is an error of the node's own: what failed, and what to do.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    struct {
		Advice string `json:"advice"`
	} `json:"data"`
}

// send makes a request and reads its answer to the end.
func (a agent) send(ctx context.Context, r request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	began := time.Now()
	resp, err := a.open(ctx, r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, fmt.Errorf("read the answer to %s: %w", r.method, err)
	}
	got := answer{status: resp.StatusCode, protocol: resp.Proto, took: time.Since(began)}
	var header bytes.Buffer
	if err := resp.Header.Write(&header); err != nil {
		return answer{}, fmt.Errorf("read the answer's header: %w", err)
	}
	got.received = append(header.Bytes(), body...)
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		body = lastEvent(body)
	}
	var message struct {
		Result json.RawMessage `json:"result"`
		Error  *rpcError       `json:"error"`
		Detail string          `json:"detail"`
	}
	// What is neither a message nor a problem document has none of these.
	if json.Unmarshal(body, &message) == nil {
		got.result, got.failure, got.problem = message.Result, message.Error, message.Detail
	}
	return got, nil
}

// listen opens a stream of notifications and returns once the node has
// acknowledged it. The stream is to be closed by the caller.
func (a agent) listen(ctx context.Context, upstream string) (io.ReadCloser, error) {
	resp, err := a.open(ctx, request{
		upstream: upstream,
		method:   "subscriptions/listen",
		params:   map[string]any{"notifications": map[string]any{"toolsListChanged": true}},
	})
	if err != nil {
		return nil, err
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(resp.Body, first); err != nil || resp.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("open a stream on %s: status %d", upstream, resp.StatusCode), err, resp.Body.Close())
	}
	return resp.Body, nil
}

func (a agent) open(ctx context.Context, r request) (*http.Response, error) {
	params := map[string]any{"_meta": map[string]any{
		"io.modelcontextprotocol/protocolVersion":    mcpVersion,
		"io.modelcontextprotocol/clientInfo":         map[string]any{"name": a.name, "version": "demo"},
		"io.modelcontextprotocol/clientCapabilities": map[string]any{},
	}}
	for name, value := range r.params {
		params[name] = value
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": r.method, "params": params})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", r.method, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.gateway+"/mcp/"+r.upstream, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request %s: %w", r.method, err)
	}
	req.Header.Set("Authorization", "Bearer "+a.token.ExposeString())
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("Mcp-Protocol-Version", mcpVersion)
	req.Header.Set("Mcp-Method", r.method)
	if r.name != "" {
		req.Header.Set("Mcp-Name", r.name)
	}
	resp, err := a.http.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("send %s to %s: %w", r.method, req.URL, err)
	}
	return resp, nil
}

// lastEvent is the data of the last event of a finished stream: the response,
// since all that MCP sends before it are notifications.
func lastEvent(stream []byte) []byte {
	var last []byte
	for line := range bytes.Lines(stream) {
		if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			last = bytes.TrimSpace(data)
		}
	}
	return last
}
