package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"go.uber.org/goleak"
)

// patience is how long a test waits for what should happen at once.
const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testPair is a self-signed certificate for loopback in PEM.
type testPair struct{ cert, key []byte }

func newTestPair(t testing.TB, commonName string) testPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:         true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return testPair{
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
}

func (p testPair) pool(t testing.TB) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(p.cert) {
		t.Fatal("bad test certificate")
	}
	return pool
}

func (p testPair) certificate(t testing.TB) *tls.Certificate {
	t.Helper()
	cert, err := tls.X509KeyPair(p.cert, p.key)
	if err != nil {
		t.Fatal(err)
	}
	return &cert
}

// always is a GetCertificate for ServerConfig.
func (p testPair) always(t testing.TB) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	t.Helper()
	cert := p.certificate(t)
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }
}

func (p testPair) write(t testing.TB, dir string) (certPath, keyPath string) {
	t.Helper()
	certPath, keyPath = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, content := range map[string][]byte{certPath: p.cert, keyPath: p.key} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certPath, keyPath
}

// testServer is a Server that runs until the test ends.
type testServer struct {
	*Server
	pair   testPair
	url    string
	served chan error
}

func startServer(t *testing.T, handler http.HandlerFunc, configure func(*ServerConfig)) *testServer {
	t.Helper()
	pair := newTestPair(t, "test")
	config := ServerConfig{
		Addr:           "127.0.0.1:0",
		Handler:        handler,
		GetCertificate: pair.always(t),
	}
	if configure != nil {
		configure(&config)
	}
	server, err := Listen(config)
	if err != nil {
		t.Fatal(err)
	}
	s := &testServer{Server: server, pair: pair, url: "https://" + server.Addr().String(), served: make(chan error, 1)}
	go func() { s.served <- server.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown at the end of the test: %v", err)
		}
		if err := <-s.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

// protocols are those that a test of all three runs through.
var protocols = []string{"HTTP/3.0", "HTTP/2.0", "HTTP/1.1"}

// client returns one that speaks nothing but the given protocol.
func (s *testServer) client(t testing.TB, protocol string) *http.Client {
	t.Helper()
	config := &tls.Config{RootCAs: s.pair.pool(t)}
	if protocol == "HTTP/3.0" {
		transport := &http3.Transport{TLSClientConfig: config, MaxResponseHeaderBytes: 1 << 20}
		t.Cleanup(func() { _ = transport.Close() })
		return &http.Client{Transport: transport, Timeout: patience}
	}
	transport := &http.Transport{TLSClientConfig: config, Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(protocol == "HTTP/1.1")
	transport.Protocols.SetHTTP2(protocol == "HTTP/2.0")
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func forEachProtocol(t *testing.T, test func(t *testing.T, protocol string)) {
	for _, protocol := range protocols {
		t.Run(strings.ReplaceAll(protocol, "/", ""), func(t *testing.T) { test(t, protocol) })
	}
}

// get fails the test unless the answer is 200 with the wanted body.
func get(t *testing.T, client *http.Client, url, wantBody string) *http.Response {
	t.Helper()
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	checkAnswer(t, answer, wantBody)
	return answer
}

func checkAnswer(t *testing.T, answer *http.Response, wantBody string) {
	t.Helper()
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || string(body) != wantBody {
		t.Fatalf("%s %s with %q, %v; want 200 with %q", answer.Proto, answer.Status, body, err, wantBody)
	}
}

// await fails the test if nothing comes out of the channel.
func await[T any](t *testing.T, what string, c <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
	return value
}

func mustFail(t *testing.T, what string, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Fatalf("%s: %v, want an error with %q", what, err, part)
	}
}

func mustBe(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("%s: %v, want %v", what, err, target)
	}
}
