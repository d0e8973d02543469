package stdio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"sallyport/crypto"
)

// Node is one place where the MCP endpoint can be reached. The token goes to URL as it is: the
// caller has made sure that nobody can read it on the way.
type Node struct {
	URL       string            // of the endpoint, such as https://127.0.0.1:8443/mcp/accounting
	Token     crypto.Secret     // sent as a bearer token; may be empty
	Transport http.RoundTripper // must not repeat a request that may have been sent
}

// nodes sends to the first node that can be dialled, in the order of preference, and stays with
// it for as long as it can be dialled.
type nodes struct {
	list []Node
	log  *slog.Logger

	mu      sync.Mutex // protects the following
	current int
}

// send gives the answer of one node. Another node is asked only where it is certain that the
// request was not sent: a call must not be carried out twice.
func (n *nodes) send(ctx context.Context, method string, header http.Header, content []byte) (*http.Response, error) {
	var unreachable []string
	for _, i := range n.order() {
		node := n.list[i]
		resp, err := node.send(ctx, method, header, content)
		if err == nil {
			n.settle(i)
			return resp, nil
		}
		if unsent := (*unsentError)(nil); !errors.As(err, &unsent) || ctx.Err() != nil {
			return nil, failed(codeBroken, "the connection to %s broke before the answer (%v); what was asked may have been done: look before you repeat it", node.URL, err)
		}
		n.log.Warn("node cannot be reached", "url", node.URL, "error", err)
		unreachable = append(unreachable, fmt.Sprintf("%s: %v", node.URL, err))
	}
	return nil, failed(codeUnreachable, "no Sallyport node can be reached (%s); check that the node runs, the address, and the CA certificate (SALLYPORT_CACERT)", strings.Join(unreachable, "; "))
}

// send gives an *unsentError if no byte of the request left.
func (n Node) send(ctx context.Context, method string, header http.Header, content []byte) (*http.Response, error) {
	// The context of the HTTP exchange ends with ctx until drain takes it over.
	exchange, cancel := context.WithCancel(context.WithoutCancel(ctx))
	keep := context.AfterFunc(ctx, cancel)
	var trace connTrace
	req, err := http.NewRequestWithContext(trace.in(exchange), method, n.URL, bytes.NewReader(content))
	if err != nil {
		keep()
		cancel()
		return nil, err
	}
	if len(content) == 0 {
		req.Body, req.GetBody = http.NoBody, nil
	}
	req.Header = header.Clone()
	if !n.Token.Empty() {
		req.Header.Set("Authorization", "Bearer "+n.Token.ExposeString())
	}
	// Not http.Client: it would follow a redirect, with the token.
	resp, err := n.Transport.RoundTrip(req)
	if err != nil {
		keep()
		cancel()
		if trace.noConnection() || noConnection(err) {
			err = &unsentError{err}
		}
		return nil, err
	}
	resp.Request = req
	resp.Body = &answerBody{ReadCloser: resp.Body, keep: keep, cancel: cancel}
	return resp, nil
}

// answerBody is the body of an answer.
type answerBody struct {
	io.ReadCloser
	keep   func() bool // see drain; false if the context has ended
	cancel context.CancelFunc
}

func (b *answerBody) Close() error {
	b.keep()
	defer b.cancel()
	return b.ReadCloser.Close()
}

// order is the node in use and then the others as preferred.
func (n *nodes) order() []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	order := []int{n.current}
	for i := range n.list {
		if i != n.current {
			order = append(order, i)
		}
	}
	return order
}

func (n *nodes) settle(i int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.current != i {
		n.log.Info("using another node", "url", n.list[i].URL)
		n.current = i
	}
}
