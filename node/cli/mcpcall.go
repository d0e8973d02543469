package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"sallyport/crypto"
	"sallyport/node/mcp"
)

// maxMessage bounds one message of an upstream, in bytes.
const maxMessage = 16 << 20

// mcpCaller makes stateless requests (MCP 2026-07-28) to one endpoint.
type mcpCaller struct {
	transport http.RoundTripper
	endpoint  string
	token     crypto.Secret
	version   string
}

// rpcError is a JSON-RPC error, with the advice that Sallyport adds to its own.
type rpcError struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data"`
}

func (e *rpcError) Error() string {
	var data struct {
		Advice string `json:"advice"`
	}
	// Data of other servers can be anything.
	if json.Unmarshal(e.Data, &data) == nil && data.Advice != "" {
		return e.Message + "; " + data.Advice
	}
	return e.Message
}

// callTool calls a tool. Headers that the tool wants its arguments repeated in are sent when the server asks for them, so that most
// calls take one request.
func (m mcpCaller) callTool(ctx context.Context, tool string, arguments jsontext.Value) (jsontext.Value, error) {
	params := mcp.Object{{Name: "name", Value: mcp.Quote(tool)}, {Name: "arguments", Value: arguments}}
	header := http.Header{mcp.HeaderName: {mcp.EncodeHeaderValue(tool)}}
	result, err := m.ask(ctx, "tools/call", params, header)
	var refused *rpcError
	if !errors.As(err, &refused) || refused.Code != mcp.CodeHeaderMismatch {
		return result, err
	}
	repeated, listErr := m.argumentHeaders(ctx, tool, arguments)
	if listErr != nil || len(repeated) == 0 {
		return nil, err
	}
	for name, values := range repeated {
		header[name] = values
	}
	return m.ask(ctx, "tools/call", params, header)
}

// argumentHeaders repeats the arguments that the tool's schema marks with x-mcp-header.
func (m mcpCaller) argumentHeaders(ctx context.Context, tool string, arguments jsontext.Value) (http.Header, error) {
	schema, err := m.schema(ctx, tool)
	if err != nil {
		return nil, err
	}
	var given map[string]any
	decoder := json.NewDecoder(bytes.NewReader(arguments))
	decoder.UseNumber()
	if err := decoder.Decode(&given); err != nil {
		return nil, err
	}
	header := http.Header{}
	schema.collect(given, header)
	return header, nil
}

// toolSchema is what is read of an inputSchema.
type toolSchema struct {
	Header     string                `json:"x-mcp-header"`
	Properties map[string]toolSchema `json:"properties"`
}

func (s toolSchema) collect(given map[string]any, header http.Header) {
	for name, property := range s.Properties {
		switch value := given[name].(type) {
		case nil:
		case map[string]any:
			property.collect(value, header)
		case string, bool, json.Number:
			if property.Header != "" {
				header.Set(mcp.HeaderParamPrefix+property.Header, mcp.EncodeHeaderValue(fmt.Sprint(value)))
			}
		}
	}
}

// maxPages bounds how long a list of tools is followed.
const maxPages = 100

func (m mcpCaller) schema(ctx context.Context, tool string) (toolSchema, error) {
	cursor := ""
	for range maxPages {
		var params mcp.Object
		if cursor != "" {
			params = mcp.Object{{Name: "cursor", Value: mcp.Quote(cursor)}}
		}
		raw, err := m.ask(ctx, "tools/list", params, http.Header{})
		if err != nil {
			return toolSchema{}, err
		}
		var page struct {
			Tools []struct {
				Name        string     `json:"name"`
				InputSchema toolSchema `json:"inputSchema"`
			} `json:"tools"`
			NextCursor string `json:"nextCursor"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return toolSchema{}, fmt.Errorf("read the list of tools: %w", err)
		}
		for _, t := range page.Tools {
			if t.Name == tool {
				return t.InputSchema, nil
			}
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	return toolSchema{}, fmt.Errorf("the list of tools has no %s", tool)
}

// ask makes one request and waits for its response. Errors of JSON-RPC are *rpcError.
func (m mcpCaller) ask(ctx context.Context, method string, params mcp.Object, header http.Header) (jsontext.Value, error) {
	meta := mcp.Object{
		{Name: mcp.MetaProtocolVersion, Value: mcp.Quote(mcp.LatestModern)},
		{Name: mcp.MetaClientInfo, Value: mcp.Object{{Name: "name", Value: mcp.Quote("sallyport")}, {Name: "version", Value: mcp.Quote(m.version)}}.JSON()},
		{Name: mcp.MetaClientCaps, Value: jsontext.Value("{}")},
	}
	body := mcp.RequestBody(jsontext.Value("1"), method, params.Set("_meta", meta.JSON()).JSON())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, m.endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("Authorization", "Bearer "+m.token.ExposeString())
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set(mcp.HeaderVersion, mcp.LatestModern)
	r.Header.Set(mcp.HeaderMethod, method)
	resp, err := m.transport.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("reach the node at %s: %w", m.endpoint, err)
	}
	defer resp.Body.Close()
	return readResponse(resp)
}

// readResponse reads the response to a request out of JSON or a stream of events.
func readResponse(resp *http.Response) (jsontext.Value, error) {
	mediaType, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if strings.TrimSpace(mediaType) == "text/event-stream" {
		events := mcp.NewEventReader(resp.Body, maxMessage)
		for {
			event, err := events.Next()
			switch {
			case errors.Is(err, io.EOF):
				return nil, errors.New("the stream ended without an answer; what was asked may have been done")
			case err != nil:
				return nil, fmt.Errorf("read the answer: %w", err)
			}
			if result, err, ok := response(event.Data); ok {
				return result, err
			}
		}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxMessage+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", err)
	case len(body) > maxMessage:
		return nil, errors.New("read the answer: it is larger than 16 MiB")
	}
	if result, err, ok := response(body); ok {
		return result, err
	}
	var problem struct {
		Detail string `json:"detail"`
	}
	if json.Unmarshal(body, &problem) == nil && problem.Detail != "" {
		return nil, errors.New(problem.Detail)
	}
	return nil, fmt.Errorf("the answer is no answer of an MCP endpoint (%s): check the address", resp.Status)
}

// response reads a message; ok tells whether it is a response.
func response(body []byte) (result jsontext.Value, err error, ok bool) {
	m, err := mcp.Parse(body)
	if err != nil || m.Kind != mcp.Response {
		return nil, err, false
	}
	if m.Error == nil {
		return m.Result, nil, true
	}
	refused := &rpcError{}
	if err := json.Unmarshal(m.Error, refused); err != nil {
		return nil, fmt.Errorf("read the error: %w", err), true
	}
	return nil, refused, true
}
