package crypto

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

var testNow = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func newTestAuthority(t *testing.T) *Authority {
	t.Helper()
	authority, err := NewAuthority("c1", testNow)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func TestIssuedCertificateVerifies(t *testing.T) {
	authority := newTestAuthority(t)
	cert, err := authority.IssueServer([]string{"node.example", "localhost", "127.0.0.1", "::1"}, testNow, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority.CertPEM()) {
		t.Fatal("CertPEM is no PEM certificate")
	}

	tests := []struct {
		host string
		at   time.Time
		ok   bool
	}{
		{"node.example", testNow, true},
		{"localhost", testNow, true},
		{"127.0.0.1", testNow, true},
		{"::1", testNow, true},
		{"node.example", testNow.Add(-4 * time.Minute), true},
		{"node.example", testNow.Add(25 * time.Hour), false},
		{"node.example", testNow.Add(-time.Hour), false},
		{"other.example", testNow, false},
		{"127.0.0.2", testNow, false},
	}
	for _, test := range tests {
		_, err := cert.Leaf.Verify(x509.VerifyOptions{
			DNSName: test.host, Roots: roots, CurrentTime: test.at,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if (err == nil) != test.ok {
			t.Errorf("%s at %s: %v", test.host, test.at, err)
		}
	}
	if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: testNow, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("a server certificate passes as a client's")
	}

	foreign := x509.NewCertPool()
	foreign.AppendCertsFromPEM(newTestAuthority(t).CertPEM())
	if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: foreign, CurrentTime: testNow}); err == nil {
		t.Error("it verifies against another authority")
	}
}

func TestIssuedCertificateServesTLS(t *testing.T) {
	authority := newTestAuthority(t)
	cert, err := authority.IssueServer([]string{"node.example"}, testNow, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.CertPEM())
	clientSide, serverSide := net.Pipe()
	clock := func() time.Time { return testNow }
	server := tls.Server(serverSide, &tls.Config{Certificates: []tls.Certificate{*cert}, Time: clock})
	client := tls.Client(clientSide, &tls.Config{RootCAs: roots, ServerName: "node.example", Time: clock})
	go func() {
		defer server.Close()
		_, _ = server.Write([]byte("hello"))
	}()
	defer client.Close()
	if got, err := io.ReadAll(client); string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestIssueServerEndsWithAuthority(t *testing.T) {
	authority := newTestAuthority(t)
	late := testNow.AddDate(9, 11, 0)
	cert, err := authority.IssueServer([]string{"localhost"}, late, 365*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if !cert.Leaf.NotAfter.Equal(testNow.AddDate(10, 0, 0)) {
		t.Errorf("it ends at %s, after the authority", cert.Leaf.NotAfter)
	}
	if _, err := authority.IssueServer([]string{"localhost"}, testNow.AddDate(11, 0, 0), time.Hour); err == nil {
		t.Error("an authority that has ended issues certificates")
	}
	if _, err := authority.IssueServer([]string{"localhost"}, testNow, 0); err == nil {
		t.Error("issued a certificate that is valid for no time")
	}
}

func TestIssueServerRefusesHosts(t *testing.T) {
	authority := newTestAuthority(t)
	for _, hosts := range [][]string{nil, {""}, {"localhost:8443"}, {"https://node.example"}, {"[::1]"}, {"a b"}, {"localhost", "x/y"}, {"nöde.example"}} {
		if _, err := authority.IssueServer(hosts, testNow, time.Hour); err == nil {
			t.Errorf("issued a certificate for %q", hosts)
		}
	}
}

func TestLoadAuthority(t *testing.T) {
	authority := newTestAuthority(t)
	key, err := authority.Key()
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := LoadAuthority(authority.CertPEM(), key)
	if err != nil {
		t.Fatal(err)
	}
	if string(loaded.CertPEM()) != string(authority.CertPEM()) {
		t.Error("the certificate changed")
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.CertPEM())
	cert, err := loaded.IssueServer([]string{"localhost"}, testNow, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: testNow}); err != nil {
		t.Errorf("a certificate of the loaded authority does not verify: %v", err)
	}
}

func TestLoadAuthorityRefuses(t *testing.T) {
	authority := newTestAuthority(t)
	key, err := authority.Key()
	if err != nil {
		t.Fatal(err)
	}
	otherKey, err := newTestAuthority(t).Key()
	if err != nil {
		t.Fatal(err)
	}
	_, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edDER, err := x509.MarshalPKCS8PrivateKey(edPrivate)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := authority.IssueServer([]string{"localhost"}, testNow, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	leafPEM := (&Authority{cert: leaf.Leaf}).CertPEM()

	tests := map[string]struct {
		cert    []byte
		key     Secret
		message string
	}{
		"no PEM":           {[]byte("x"), key, "PEM"},
		"empty":            {nil, key, "PEM"},
		"two certificates": {append(authority.CertPEM(), authority.CertPEM()...), key, "exactly one"},
		"another's key":    {authority.CertPEM(), otherKey, "does not belong"},
		"key of a kind":    {authority.CertPEM(), NewSecret(edDER), "not ECDSA"},
		"key cut short":    {authority.CertPEM(), NewSecret(key.Expose()[:20]), "not PKCS #8"},
		"no key":           {authority.CertPEM(), Secret{}, "not PKCS #8"},
		"not an authority": {leafPEM, key, "authority"},
	}
	for name, test := range tests {
		if _, err := LoadAuthority(test.cert, test.key); err == nil || !strings.Contains(err.Error(), test.message) {
			t.Errorf("%s: %v, want an error with %q", name, err, test.message)
		}
	}
}
