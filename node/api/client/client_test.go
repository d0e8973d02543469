package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/crypto"
	"sallyport/node/api"
	"sallyport/node/api/kind"
)

// serve answers every request in the same way and keeps the last one.
func serve(t *testing.T, status int, contentType, body string) (*Client, *http.Request, *string) {
	t.Helper()
	last, sent := &http.Request{}, new(string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		*last, *sent = *r, string(text)
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("ETag", `"7"`)
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return New(server.URL+"/", crypto.SecretString("spa_x"), server.Client().Transport), last, sent
}

const agentText = `{"apiVersion":"sallyport/v1","kind":"Agent","metadata":{"name":"A","later":1},"spec":{"roles":["r"]}}`

func TestResources(t *testing.T) {
	c, last, _ := serve(t, 200, "application/json", agentText)
	r, etag, err := c.Get(t.Context(), kind.KindAgent, "A/../b")
	if err != nil {
		t.Fatal(err)
	}
	if a, ok := r.(*kind.Agent); !ok || a.Spec.Roles[0] != "r" || etag != `"7"` {
		t.Errorf("got %+v, %s", r, etag)
	}
	if last.RequestURI != "/v1/agents/A%2F..%2Fb" || last.Header.Get("Authorization") != "Bearer spa_x" {
		t.Errorf("asked %s with %q", last.RequestURI, last.Header.Get("Authorization"))
	}

	c, _, _ = serve(t, 200, "application/json", `{"items":[`+agentText+`]}`)
	if list, err := c.List(t.Context(), kind.KindAgent); err != nil || len(list) != 1 {
		t.Errorf("got %v, %v", list, err)
	}
	c, last, _ = serve(t, 204, "", "")
	if err := c.Delete(t.Context(), kind.KindPolicy, "p"); err != nil || last.Method != http.MethodDelete || last.RequestURI != "/v1/policies/p" {
		t.Errorf("%s %s: %v", last.Method, last.RequestURI, err)
	}
}

func TestPutSendsSecrets(t *testing.T) {
	text := `{"apiVersion":"sallyport/v1","kind":"Upstream","metadata":{"name":"u"},"spec":{"url":"https://u","credential":{"grant":"static","header":{"name":"X","value":%s}}}}`
	c, last, sent := serve(t, 200, "application/json", `{"outcome":"changed","secretChanged":true,"resource":`+strings.Replace(text, "%s", `{"set":true}`, 1)+`}`)
	r, err := kind.Decode([]byte(strings.Replace(text, "%s", `"canary"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	applied, err := c.Put(t.Context(), r, Put{DryRun: true, IfMatch: `"6"`})
	if err != nil || applied.Outcome != api.Changed || !applied.SecretChanged {
		t.Errorf("got %+v, %v", applied, err)
	}
	if !strings.Contains(*sent, `"canary"`) || last.URL.RawQuery != "dryRun=true" || last.Header.Get("If-Match") != `"6"` {
		t.Errorf("sent %s to %s, If-Match %s", *sent, last.URL, last.Header.Get("If-Match"))
	}
}

func TestRefusals(t *testing.T) {
	problem := `{"status":422,"detail":"the document is not valid","errors":[{"message":"is missing","location":"body.spec.url"},{"message":"odd","location":"body"}]}`
	for name, test := range map[string]struct {
		status            int
		contentType, body string
		want              string
	}{
		"problem":   {422, "application/problem+json", problem, "the document is not valid\n  spec.url: is missing\n  odd"},
		"no detail": {404, "application/problem+json", `{}`, "not found"},
		"a page":    {404, "text/html", "<html>", "the answer is no answer of the admin API (404 Not Found): check the address"},
		"redirect":  {307, "text/html", "", "no answer of the admin API (307"},
		"not JSON":  {200, "application/json", "<html>", "read the node's answer"},
		"damaged":   {500, "application/problem+json", "{", "read the node's answer"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, _ := serve(t, test.status, test.contentType, test.body)
			_, err := c.Status(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if IsNotFound(err) != (test.status == 404) || IsConflict(err) {
				t.Errorf("%v is taken for another error", err)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	_, err := New(server.URL, crypto.Secret{}, http.DefaultTransport).Status(t.Context())
	if err == nil || !strings.Contains(err.Error(), "reach the node at "+server.URL) {
		t.Errorf("got %v", err)
	}
}

func TestFollowAudit(t *testing.T) {
	c, last, _ := serve(t, 200, "application/x-ndjson", `{"id":"1"}`+"\n"+`{"id":"2"}`+"\n")
	var ids []string
	started := 0
	err := c.FollowAudit(t.Context(), AuditQuery{Agent: "A", Since: time.Unix(0, 0).UTC(), Limit: 5}, func() { started++ }, func(r api.AuditRecord) bool {
		ids = append(ids, r.ID)
		return true
	})
	if err == nil || strings.Join(ids, " ") != "1 2" || started != 1 {
		t.Errorf("got %v, %d starts, %v; want an error, since the node ended the stream", ids, started, err)
	}
	if got := last.URL.RawQuery; got != "agent=A&follow=true&limit=5&since=1970-01-01T00%3A00%3A00Z" {
		t.Errorf("asked %s", got)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	err = c.FollowAudit(ctx, AuditQuery{}, func() {}, func(api.AuditRecord) bool { cancel(enough); return true })
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	if err := c.FollowAudit(t.Context(), AuditQuery{}, func() {}, func(api.AuditRecord) bool { return false }); err != nil {
		t.Errorf("got %v", err)
	}
}
