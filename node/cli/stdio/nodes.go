package stdio

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
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
func (n *nodes) send(ctx context.Context, method string, header http.Header, body []byte) (*http.Response, error) {
	var unreachable []string
	for _, i := range n.order() {
		node := n.list[i]
		resp, err := node.send(ctx, method, header, body)
		if err == nil {
			n.settle(i)
			return resp, nil
		}
		if !neverSent(err) || ctx.Err() != nil {
			return nil, failed(codeBroken, "the connection to %s broke before the answer (%v); what was asked may have been done: look before you repeat it", node.URL, err)
		}
		n.log.Warn("node cannot be reached", "url", node.URL, "error", err)
		unreachable = append(unreachable, fmt.Sprintf("%s: %v", node.URL, err))
	}
	return nil, failed(codeUnreachable, "no Sallyport node can be reached (%v); check that the node runs, the address, and the CA certificate (SALLYPORT_CACERT)", strings.Join(unreachable, "; "))
}

func (n Node) send(ctx context.Context, method string, header http.Header, content []byte) (*http.Response, error) {
	// The context of the HTTP exchange ends with ctx until drain takes it over.
	exchange, cancel := context.WithCancel(context.WithoutCancel(ctx))
	keep := context.AfterFunc(ctx, cancel)
	req, err := http.NewRequestWithContext(exchange, method, n.URL, bytes.NewReader(content))
	if err != nil {
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
		cancel()
		return nil, err
	}
	resp.Request = req
	resp.Body = &body{ReadCloser: resp.Body, keep: keep, cancel: cancel}
	return resp, nil
}

// body is the body of an answer.
type body struct {
	io.ReadCloser
	keep   func() bool // see drain; false if the context has ended
	cancel context.CancelFunc
}

func (b *body) Close() error {
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

// neverSent reports whether err proves that no byte of the request left: the name was not found,
// nobody listened, or the certificate was not to be trusted. Where err tells of several attempts
// the first counts, which transport.Client makes the last one: it makes another only if the one
// before was never sent.
func neverSent(err error) bool {
	for err != nil {
		switch cause := err.(type) { //nolint:errorlint // errors.As would look at every attempt
		case *net.OpError:
			return cause.Op == "dial"
		case *net.DNSError, *tls.CertificateVerificationError:
			return true
		case interface{ Unwrap() []error }:
			err = cause.Unwrap()[0]
		default:
			err = errors.Unwrap(err)
		}
	}
	return false
}
