package profile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/crypto"
)

const node = "https://127.0.0.1:8443"

// memoryRing is a keyring that works, or that fails with err.
type memoryRing struct {
	secrets map[string]string
	err     error
}

func (r *memoryRing) Set(service, user, secret string) error {
	if r.err != nil {
		return r.err
	}
	r.secrets[service+"/"+user] = secret
	return nil
}

func (r *memoryRing) Get(service, user string) (string, error) {
	secret, ok := r.secrets[service+"/"+user]
	if r.err != nil || !ok {
		return "", errors.Join(r.err, errors.New("not found"))
	}
	return secret, nil
}

func workingRing() *memoryRing { return &memoryRing{secrets: map[string]string{}} }
func brokenRing() *memoryRing  { return &memoryRing{err: errors.New("no keyring here")} }

type environment map[string]string

func (e environment) get(name string) string { return e[name] }

func mustLoad(t *testing.T, dir string, env environment, ring keyring) Profile {
	t.Helper()
	p, err := load(dir, env.get, ring)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newToken(t *testing.T, kind crypto.TokenKind) crypto.Secret {
	t.Helper()
	token, _, err := crypto.NewToken(kind)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func newCA(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestTokensComeBack(t *testing.T) {
	for name, ring := range map[string]*memoryRing{"keyring": workingRing(), "file": brokenRing()} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "sallyport")
			p := mustLoad(t, dir, nil, ring)
			gateway, admin := newToken(t, crypto.GatewayToken), newToken(t, crypto.AdminToken)
			elsewhere := newToken(t, crypto.GatewayToken)
			for origin, tokens := range map[string][]crypto.Secret{node: {gateway, admin}, "https://127.0.0.1:9443": {elsewhere}} {
				for _, token := range tokens {
					where, err := p.SaveToken(origin, token)
					if err != nil {
						t.Fatal(err)
					}
					if strings.Contains(where, token.ExposeString()) {
						t.Error("SaveToken shows the token")
					}
				}
			}

			p = mustLoad(t, dir, nil, ring)
			for _, want := range []struct {
				address string
				kind    crypto.TokenKind
				token   crypto.Secret
			}{
				{node + "/mcp/accounting", crypto.GatewayToken, gateway},
				{"HTTPS://127.0.0.1:8443", crypto.AdminToken, admin},
				{"https://127.0.0.1:9443/mcp", crypto.GatewayToken, elsewhere},
				{"https://127.0.0.1:9443/mcp", crypto.AdminToken, crypto.Secret{}},
				{"https://other.example", crypto.GatewayToken, crypto.Secret{}},
			} {
				access, err := p.Resolve(want.address, want.kind)
				if err != nil {
					t.Fatal(err)
				}
				if !access.Token.Equal(want.token) {
					t.Errorf("Resolve(%s, %s) gave another token", want.address, want.kind)
				}
			}
			checkNoSecret(t, dir, name == "keyring", gateway, admin, elsewhere)
		})
	}
}

// checkNoSecret looks for tokens where none may be, and for files that others could read.
func checkNoSecret(t *testing.T, dir string, anywhere bool, tokens ...crypto.Secret) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", path, info.Mode())
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, token := range tokens {
			if strings.Contains(string(content), token.ExposeString()) && (anywhere || filepath.Base(filepath.Dir(path)) != "tokens") {
				t.Errorf("%s holds a token", path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestKeyringReplacesFile(t *testing.T) {
	dir := t.TempDir()
	old, renewed := newToken(t, crypto.GatewayToken), newToken(t, crypto.GatewayToken)
	p := mustLoad(t, dir, nil, brokenRing())
	if _, err := p.SaveToken(node, old); err != nil {
		t.Fatal(err)
	}
	p = mustLoad(t, dir, nil, workingRing())
	if _, err := p.SaveToken(node, renewed); err != nil {
		t.Fatal(err)
	}
	access, err := p.Resolve(node, crypto.GatewayToken)
	if err != nil || !access.Token.Equal(renewed) {
		t.Errorf("Resolve gave the wrong token (%v)", err)
	}
	checkNoSecret(t, dir, true, old, renewed)
}

func TestResolve(t *testing.T) {
	gateway, admin := newToken(t, crypto.GatewayToken), newToken(t, crypto.AdminToken)
	cut := crypto.SecretString(strings.TrimSuffix(gateway.ExposeString(), gateway.ExposeString()[40:]))
	cases := map[string]struct {
		env     environment
		file    string
		address string
		kind    crypto.TokenKind
		origin  string
		token   crypto.Secret
		wantErr string
	}{
		"address given":         {address: node + "/mcp/x", kind: crypto.GatewayToken, origin: node},
		"address of the shell":  {env: environment{"SALLYPORT_ADDR": node}, kind: crypto.AdminToken, origin: node},
		"address of the file":   {file: "addr: " + node, kind: crypto.AdminToken, origin: node},
		"shell before file":     {env: environment{"SALLYPORT_ADDR": node}, file: "addr: https://a.example", kind: crypto.AdminToken, origin: node},
		"no address":            {kind: crypto.AdminToken, wantErr: "SALLYPORT_ADDR"},
		"token of the shell":    {env: environment{"SALLYPORT_TOKEN": gateway.ExposeString() + "\n"}, address: node, kind: crypto.GatewayToken, origin: node, token: gateway},
		"foreign token":         {env: environment{"SALLYPORT_TOKEN": "eyJhbGciOi.e30.c2ln"}, address: node, kind: crypto.GatewayToken, origin: node, token: crypto.SecretString("eyJhbGciOi.e30.c2ln")},
		"wrong kind":            {env: environment{"SALLYPORT_TOKEN": admin.ExposeString()}, address: node, kind: crypto.GatewayToken, wantErr: "holds an admin token (spa_...) and this needs a gateway token"},
		"cut token":             {env: environment{"SALLYPORT_TOKEN": cut.ExposeString()}, address: node, kind: crypto.GatewayToken, wantErr: "cut or mistyped"},
		"token with a newline":  {env: environment{"SALLYPORT_TOKEN": "one\ntwo"}, address: node, kind: crypto.GatewayToken, wantErr: "characters that no token has"},
		"token file missing":    {file: "nodes: {'" + node + "/': {tokens: {spt_: file}}}", address: node, kind: crypto.GatewayToken, wantErr: "read the token for " + node},
		"token place unknown":   {file: "nodes: {'" + node + "': {tokens: {spt_: cloud}}}", address: node, kind: crypto.GatewayToken, wantErr: `kept in "cloud"`},
		"keyring gone":          {file: "nodes: {'" + node + "': {tokens: {spt_: keyring}}}", address: node, kind: crypto.GatewayToken, wantErr: "set SALLYPORT_TOKEN"},
		"CA of the shell gone":  {env: environment{"SALLYPORT_CACERT": "/nonexistent/ca.pem"}, address: node, kind: crypto.GatewayToken, wantErr: "SALLYPORT_CACERT must name"},
		"CA of the file gone":   {file: "nodes: {'" + node + "': {ca: ca/x.pem}}", address: node, kind: crypto.GatewayToken, wantErr: "save the certificate again"},
		"plain http":            {address: "http://node.example", kind: crypto.GatewayToken, wantErr: "unencrypted"},
		"password in the URL":   {address: "https://me:secret@node.example", kind: crypto.GatewayToken, wantErr: "must not contain a user"},
		"no URL":                {address: "node.example:8443", kind: crypto.GatewayToken, wantErr: "not the address of a node"},
		"unknown key in file":   {file: "addresses: x", wantErr: "profiles.yaml"},
		"bad address in file":   {file: "nodes: {'ftp://x': {}}", wantErr: "not the address of a node"},
		"file that is not YAML": {file: "{", wantErr: "profiles.yaml"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.file != "" {
				if err := os.WriteFile(filepath.Join(dir, fileName), []byte(c.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			access, err := func() (Access, error) {
				p, err := load(dir, c.env.get, workingRing())
				if err != nil {
					return Access{}, err
				}
				return p.Resolve(c.address, c.kind)
			}()
			if c.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), c.wantErr) {
					t.Fatalf("error = %v, want one with %q", err, c.wantErr)
				}
				for _, secret := range []string{gateway.ExposeString()[:20], admin.ExposeString()[:20], "me:secret"} {
					if strings.Contains(err.Error(), secret) {
						t.Errorf("the error shows a secret: %v", err)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if access.Origin != c.origin || !access.Token.Equal(c.token) {
				t.Errorf("access to %s, token equal: %t; want %s", access.Origin, access.Token.Equal(c.token), c.origin)
			}
		})
	}
}

func TestCA(t *testing.T) {
	dir := t.TempDir()
	certificate := newCA(t)
	p := mustLoad(t, dir, nil, workingRing())
	if err := p.SaveCA(node, []byte("-----BEGIN NOTHING-----")); err == nil {
		t.Error("SaveCA took something that is no certificate")
	}
	if err := p.SaveCA(node, certificate); err != nil {
		t.Fatal(err)
	}
	want := x509.NewCertPool()
	want.AppendCertsFromPEM(certificate)

	outside := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(outside, certificate, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env     environment
		address string
		want    *x509.CertPool
	}{
		"saved":      {address: node, want: want},
		"elsewhere":  {address: "https://other.example"},
		"of a shell": {env: environment{"SALLYPORT_CACERT": outside}, address: "https://other.example", want: want},
	} {
		access, err := mustLoad(t, dir, c.env, workingRing()).Resolve(c.address, crypto.GatewayToken)
		if err != nil {
			t.Fatal(err)
		}
		if (access.RootCAs == nil) != (c.want == nil) || c.want != nil && !access.RootCAs.Equal(c.want) {
			t.Errorf("%s: wrong certificates", name)
		}
	}
}

func TestLooseModesAreRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // mode bits say nothing there
	}
	dir := t.TempDir()
	p := mustLoad(t, dir, nil, brokenRing())
	if _, err := p.SaveToken(node, newToken(t, crypto.GatewayToken)); err != nil {
		t.Fatal(err)
	}
	if err := p.SaveCA(node, newCA(t)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		mode os.FileMode
		ok   bool
	}{
		"token for the group":         {p.tokenPath(node, crypto.GatewayToken), 0o640, false},
		"token for everybody":         {p.tokenPath(node, crypto.GatewayToken), 0o644, false},
		"token that cannot change":    {p.tokenPath(node, crypto.GatewayToken), 0o400, true},
		"CA that others may read":     {filepath.Join(dir, p.file.Nodes[node].CA), 0o644, true},
		"CA that others may replace":  {filepath.Join(dir, p.file.Nodes[node].CA), 0o666, false},
		"profile others may read":     {filepath.Join(dir, fileName), 0o644, true},
		"profile the group may write": {filepath.Join(dir, fileName), 0o660, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.Chmod(c.path, c.mode); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := os.Chmod(c.path, 0o600); err != nil {
					t.Error(err)
				}
			})
			p, err := load(dir, environment{}.get, brokenRing())
			if err == nil {
				_, err = p.Resolve(node, crypto.GatewayToken)
			}
			switch {
			case c.ok && err != nil:
				t.Errorf("refused: %v", err)
			case !c.ok && (err == nil || !strings.Contains(err.Error(), "chmod 600 "+c.path)):
				t.Errorf("error = %v, want the command that fixes it", err)
			}
		})
	}
}

func TestOrigin(t *testing.T) {
	cases := map[string]string{
		"https://Gateway.Example/mcp/x?y=z": "https://gateway.example",
		"https://gateway.example:443":       "https://gateway.example",
		"https://gateway.example:8443/":     "https://gateway.example:8443",
		"http://localhost:80/mcp":           "http://localhost",
		"http://127.0.0.1:8080":             "http://127.0.0.1:8080",
		"https://[::1]:8443/mcp":            "https://[::1]:8443",
		"https://[2001:DB8::1]":             "https://[2001:db8::1]",
		"http://[::1]":                      "http://[::1]",
		"http://10.0.0.1":                   "",
		"http://localhost.example":          "",
		"https://":                          "",
		"https://:8443":                     "",
		"//gateway.example":                 "",
		"unix:///run/x":                     "",
		"https://a b":                       "",
		"":                                  "",
	}
	for address, want := range cases {
		got, err := Origin(address)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("Origin(%q) = %q, %v; want %q", address, got, err, want)
		}
	}
}

func TestFileStemsDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, origin := range []string{
		"https://a", "http://a", "https://a:1", "https://a_1", "https://a_3a1", "https://a-1", "https://a.1",
		"https://[::1]", "https://[::1]:1", "https://__1",
	} {
		stem := fileStem(origin)
		if other, taken := seen[stem]; taken {
			t.Errorf("%s and %s have the same file name %s", origin, other, stem)
		}
		if strings.ContainsAny(stem, `/\:*?"<>|`) {
			t.Errorf("%s has the file name %s, which not every system can have", origin, stem)
		}
		seen[stem] = origin
	}
}

// silentRing is a keyring that asks the user for a password and never gets it.
type silentRing struct{ end chan struct{} }

func (r silentRing) Set(string, string, string) error { <-r.end; return nil }

func (r silentRing) Get(string, string) (string, error) { <-r.end; return "", nil }

func TestKeyringThatDoesNotAnswer(t *testing.T) {
	token, dir := newToken(t, crypto.GatewayToken), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ring := silentRing{make(chan struct{})}
		defer close(ring.end)
		p := mustLoad(t, dir, nil, ring)
		where, err := p.SaveToken(node, token)
		if err != nil || !strings.Contains(where, "no answer within 1m0s") {
			t.Fatalf("SaveToken = %q, %v; want a file and why", where, err)
		}
		access, err := p.Resolve(node, crypto.GatewayToken)
		if err != nil || !access.Token.Equal(token) {
			t.Errorf("the token did not come back from the file: %v", err)
		}
		if err := p.changeNode(node, func(n *nodeSetting) { n.Tokens[crypto.GatewayToken] = inKeyring }); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Resolve(node, crypto.GatewayToken); err == nil || !strings.Contains(err.Error(), "unlock the keyring") {
			t.Errorf("error = %v, want one that says what to do", err)
		}
	})
}

func TestLoadUsesConfigDir(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SALLYPORT_CONFIG_DIR", dir)
	t.Setenv("SALLYPORT_ADDR", "")
	p, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SaveAddr(node); err != nil {
		t.Fatal(err)
	}
	if err := p.SaveAddr("nonsense"); err == nil {
		t.Error("SaveAddr took an address that is none")
	}
	p, err = Load()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SALLYPORT_TOKEN", "")
	t.Setenv("SALLYPORT_CACERT", "")
	access, err := p.Resolve("", crypto.AdminToken)
	if err != nil || access.Address != node {
		t.Errorf("Resolve = %q, %v; want %s", access.Address, err, node)
	}
	if _, err := os.Stat(filepath.Join(dir, fileName)); err != nil {
		t.Error(err)
	}
}
