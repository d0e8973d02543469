package server

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"sallyport/crypto"
	"sallyport/raftfsm"
)

// TestInjectionOverHTTP2 holds the injection at the moment of the connection to upstreams that speak HTTP/2, on the first call and on a
// connection that is used again.
func TestInjectionOverHTTP2(t *testing.T) {
	f := start(t)
	seen := make(chan string, 16)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Proto + " " + r.Header.Get("X-Api-Key")
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("Mcp-Method") == "server/discover" {
			fmt.Fprint(w, `{"jsonrpc":"2.0","id":"probe","result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{}}}`)
			return
		}
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[]}}`)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	id := raftfsm.CredentialID("secure", raftfsm.SubjectGateway)
	sealed, err := f.keys.data.Seal(crypto.SecretString("k3y"), crypto.Binding{Kind: "credential", ID: id, Generation: 1})
	if err != nil {
		t.Fatal(err)
	}
	f.apply(&raftfsm.PutUpstream{
		Upstream: raftfsm.Upstream{
			Name: "secure", URL: s.URL, Grant: raftfsm.GrantStatic, Header: "X-Api-Key",
			CACert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}),
		},
		Credential: &raftfsm.Credential{ID: id, Upstream: "secure", Subject: raftfsm.SubjectGateway, State: raftfsm.CredentialActive, Generation: 1, Sealed: sealed, Header: "X-Api-Key"},
	})
	rt := f.protocols()["HTTP/3.0"]
	for range 3 {
		if resp, body := f.do(rt, f.modern("secure", "1", "t", "{}")); resp.StatusCode != http.StatusOK || body == "" {
			t.Fatalf("status %d: %s", resp.StatusCode, body)
		}
	}
	for range 4 { // the probe and three calls
		if got := <-seen; got != "HTTP/2.0 k3y" {
			t.Fatalf("the upstream saw %q", got)
		}
	}
}
