package server

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/crypto"
	"sallyport/node/api/client"
	"sallyport/node/api/kind"
)

// canaries are secrets, by what they are. They hold characters that encodings change.
type canaries map[string]string

// find returns which canary stands in data, in clear or in an encoding that somebody could undo.
func (c canaries) find(data []byte) (what, how string, found bool) {
	lower := bytes.ToLower(data)
	for name, secret := range c {
		forms := map[string]string{"clear": secret, "URL-escaped": url.QueryEscape(secret), "path-escaped": url.PathEscape(secret)}
		for shift := range 3 {
			// Whatever stands before it in the same base64 text, the middle of a secret looks one of three ways.
			encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + secret))
			middle := encoded[4 : len(encoded)-4]
			forms[fmt.Sprintf("base64 at %d", shift)] = middle
			forms[fmt.Sprintf("base64url at %d", shift)] = strings.NewReplacer("+", "-", "/", "_").Replace(middle)
		}
		for how, form := range forms {
			if bytes.Contains(data, []byte(form)) {
				return name, how, true
			}
		}
		if bytes.Contains(lower, []byte(hex.EncodeToString([]byte(secret)))) {
			return name, "hex", true
		}
	}
	return "", "", false
}

func TestCanariesAreFound(t *testing.T) {
	secret := "s3cr+t/%?value-of-some-length"
	c := canaries{"it": secret}
	for _, form := range []string{
		"x" + secret, url.QueryEscape(secret), hex.EncodeToString([]byte("a" + secret)), base64.StdEncoding.EncodeToString([]byte("user:" + secret)),
		base64.RawURLEncoding.EncodeToString([]byte("user" + secret + "behind")), strings.ToUpper(hex.EncodeToString([]byte(secret))),
	} {
		if _, _, found := c.find([]byte("{" + form + "}")); !found {
			t.Errorf("not found in %s", form)
		}
	}
	if what, how, found := c.find([]byte("nothing of the kind")); found {
		t.Errorf("found %s in %s", what, how)
	}
}

// transcript keeps all that clients were answered.
type transcript struct {
	http.RoundTripper
	all syncBuffer
}

func (t *transcript) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	for name, values := range resp.Header {
		fmt.Fprintf(&t.all, "%s: %q\n", name, values)
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.TeeReader(resp.Body, &t.all), resp.Body}
	return resp, nil
}

// gossip is an upstream that repeats the credential wherever it should not, each tool in another way.
func gossip(t *testing.T) *script {
	return scripted(t, onlyModernEra, func(w http.ResponseWriter, s *seen) {
		secret := s.Header.Get("Authorization") + s.Header.Get("X-Api-Key")
		w.Header().Set("Set-Cookie", "k="+url.QueryEscape(secret))
		w.Header().Set("WWW-Authenticate", `Bearer error_description="`+secret+`"`)
		w.Header().Set("X-Upstream", secret)
		var p struct{ Name string }
		hold(t, "the call's params", json.Unmarshal(s.Params, &p) == nil, s.Body)
		switch p.Name {
		case "fails":
			http.Error(w, "cannot take "+secret, http.StatusInternalServerError)
		case "html":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprintf(w, "<p>%s", secret)
		case "redirect":
			http.Redirect(w, s.Request, "/?key="+url.QueryEscape(secret), http.StatusTemporaryRedirect)
		case "unauthorized":
			http.Error(w, secret, http.StatusUnauthorized)
		case "forbidden":
			http.Error(w, secret, http.StatusForbidden)
		case "badjson":
			writeJSON(w, http.StatusOK, `{"jsonrpc":"2.0","id":"`+secret+`"}`)
		case "badevent":
			events(w)(secret)
		case "cut":
			w.Header().Set("Content-Length", "1000")
			writeJSON(w, http.StatusOK, `{"jsonrpc":"2.0","id":"`+secret)
		default:
			reply(w, s, done)
		}
	})
}

// TestNoSecretAppearsElsewhere runs calls that succeed and calls that fail in many ways, and then looks for every secret that was involved in
// everything that the node wrote, sent to callers or would hand to another node.
func TestNoSecretAppearsElsewhere(t *testing.T) {
	f := start(t)
	const access, clientSecret, static = "access+canary/%41?token~one", "client+canary/%41?secret&one", "static+canary/%41?value=one"
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		if r.URL.Path == "/broken" {
			writeJSON(w, http.StatusBadRequest, `{"error":"`+password+`","error_description":"`+password+`","error_uri":"https://x.example/`+password+`"}`)
			return
		}
		writeJSON(w, http.StatusOK, `{"access_token":"`+access+`","token_type":"Bearer","expires_in":3600}`)
	}))
	t.Cleanup(endpoint.Close)
	u := gossip(t)

	adminText, err := os.ReadFile(f.AdminTokenPath())
	if err != nil {
		t.Fatal(err)
	}
	admin := strings.TrimSpace(string(adminText))
	answers := &transcript{RoundTripper: f.protocols()["HTTP/2.0"]}
	operator := client.New(f.URL(), crypto.SecretString(admin), answers)
	for _, text := range []string{
		`{"apiVersion":"sallyport/v1","kind":"Upstream","metadata":{"name":"static"},"spec":{"url":"` + u.URL + `","credential":{"grant":"static","header":{"name":"X-Api-Key","value":"` + static + `"}}}}`,
		`{"apiVersion":"sallyport/v1","kind":"Upstream","metadata":{"name":"oauth"},"spec":{"url":"` + u.URL + `","credential":{"grant":"client_credentials","tokenURL":"` + endpoint.URL + `/token","clientID":"c","clientSecret":"` + clientSecret + `"}}}`,
		`{"apiVersion":"sallyport/v1","kind":"Upstream","metadata":{"name":"broken"},"spec":{"url":"` + u.URL + `","credential":{"grant":"client_credentials","tokenURL":"` + endpoint.URL + `/broken","clientID":"c","clientSecret":"` + clientSecret + `"}}}`,
	} {
		r, err := kind.New("Upstream")
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(text), r); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if _, err := operator.Put(t.Context(), r, client.Put{}); err != nil {
			t.Fatalf("put: %v", err)
		}
	}
	for _, upstream := range []string{"static", "oauth", "broken"} {
		for _, tool := range []string{"works", "fails", "html", "redirect", "unauthorized", "forbidden", "badjson", "badevent", "cut"} {
			resp, body := f.do(answers, f.modern(upstream, "1", tool, "{}"))
			hold(t, upstream+"/"+tool, resp.StatusCode == http.StatusOK && strings.Contains(body, `"done"`) == (tool == "works" && upstream != "broken"), body)
		}
	}
	for _, path := range []string{"/v1/upstreams", "/v1/credentials", "/v1/tokens", "/v1/admin-tokens", "/v1/audit?limit=5000", "/v1/status", "/v1/upstreams/oauth", "/v1/nothing"} {
		r := f.request(http.MethodGet, "x", "", "Authorization", "Bearer "+admin)
		r.URL, err = url.Parse(f.URL() + path)
		hold(t, "URL", err == nil)
		f.do(answers, r)
	}
	f.do(answers, f.modern("static", "1", "works", "{}", "Authorization", "Bearer "+admin))
	f.do(answers, f.modern("static", "1", "works", "{}", "Authorization", "Bearer "+f.token+"x"))
	for _, s := range u.got("tools/call") {
		if _, _, found := (canaries{"gateway token": f.token, "admin token": admin}).find([]byte(fmt.Sprint(s.Header, s.Body))); found {
			t.Fatalf("the caller's token reached the upstream: %v", s.Header)
		}
	}
	hold(t, "the secrets were used", u.got("tools/call")[0].Header.Get("X-Api-Key") == static && strings.Contains(fmt.Sprint(lastHeaders(u)), access))

	places := map[string][]byte{"the answers": []byte(answers.all.String()), "the logs": []byte(f.logs.String())}
	resp, err := http.Get("http://" + f.OpsAddr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if places["the metrics"], err = io.ReadAll(resp.Body); err != nil || resp.Body.Close() != nil {
		t.Fatal(err)
	}
	var snapshot bytes.Buffer
	if err := f.cluster.State().Snapshot().Write(&snapshot); err != nil {
		t.Fatal(err)
	}
	places["a snapshot"] = snapshot.Bytes()
	f.stop()
	readFiles(t, f.cfg.DataDir, places)
	secrets := canaries{"access token": access, "client secret": clientSecret, "static value": static, "gateway token": f.token, "admin token": admin}
	for place, data := range places {
		hold(t, place+" is empty", len(data) > 0 || strings.Contains(place, "lock"))
		if what, how, found := secrets.find(data); found && filepath.Base(place) != adminTokenFile {
			t.Errorf("the %s stands in %s (%s)", what, place, how)
		}
	}
	hold(t, "the audit is among the files", strings.Contains(fmt.Sprint(names(places)), "audit"), names(places))
}

func lastHeaders(u *script) (out []http.Header) {
	for _, s := range u.got("tools/call") {
		out = append(out, s.Header)
	}
	return out
}

func readFiles(t *testing.T, dir string, into map[string][]byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		into[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func names(m map[string][]byte) (out []string) {
	for name := range m {
		out = append(out, name)
	}
	return out
}
