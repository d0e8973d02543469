package crypto

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

const (
	authorityYears = 10

	// clockSkew is how far the clock of a peer may be behind that of the issuer.
	clockSkew = 5 * time.Minute

	pemCertificate = "CERTIFICATE"
)

// Authority is the certificate authority of a cluster: an ECDSA P-256 key with a self-signed
// certificate.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes the authority of a new cluster, valid for ten years.
func NewAuthority(clusterID string, now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make cluster CA: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"Sallyport"}, CommonName: "Sallyport cluster " + clusterID},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.AddDate(authorityYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make cluster CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make cluster CA: %w", err)
	}
	return &Authority{cert: cert, key: key}, nil
}

// LoadAuthority puts an authority together again from its certificate and its key in PKCS #8 DER.
func LoadAuthority(certPEM []byte, key Secret) (*Authority, error) {
	block, rest := pem.Decode(certPEM)
	if block == nil || block.Type != pemCertificate || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, errors.New("load cluster CA: want exactly one PEM certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("load cluster CA: %w", err)
	}
	if !cert.IsCA {
		return nil, errors.New("load cluster CA: the certificate is not one of an authority")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(key.Expose())
	if err != nil {
		// The cause is left out: it is about the bytes of a private key.
		return nil, errors.New("load cluster CA: the key is not PKCS #8")
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("load cluster CA: the key is not ECDSA")
	}
	if !private.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("load cluster CA: the key does not belong to the certificate")
	}
	return &Authority{cert: cert, key: private}, nil
}

// CertPEM returns the certificate that clients trust.
func (a *Authority) CertPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: a.cert.Raw})
}

// Key returns the private key in PKCS #8 DER, to be sealed.
func (a *Authority) Key() (Secret, error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return Secret{}, fmt.Errorf("export cluster CA key: %w", err)
	}
	return ownSecret(der), nil
}

// IssueServer makes a key and a certificate for a server that answers to hosts: DNS names or IP addresses,
// without ports. It is valid from a little before now until now+validity, but not longer than the authority.
func (a *Authority) IssueServer(hosts []string, now time.Time, validity time.Duration) (*tls.Certificate, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"Sallyport"}},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(validity),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	if !template.NotAfter.After(now) {
		return nil, fmt.Errorf("issue server certificate: it would have ended at %s; the cluster CA ends at %s",
			template.NotAfter.Format(time.RFC3339), a.cert.NotAfter.Format(time.RFC3339))
	}
	if err := setHosts(template, hosts); err != nil {
		return nil, fmt.Errorf("issue server certificate: %w", err)
	}

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("issue server certificate: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("issue server certificate for %s: %w", strings.Join(hosts, ", "), err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issue server certificate for %s: %w", strings.Join(hosts, ", "), err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

func setHosts(template *x509.Certificate, hosts []string) error {
	if len(hosts) == 0 {
		return errors.New("no host names or addresses given")
	}
	for _, host := range hosts {
		if addr, err := netip.ParseAddr(host); err == nil {
			template.IPAddresses = append(template.IPAddresses, addr.WithZone("").AsSlice())
			continue
		}
		if host == "" || strings.ContainsAny(host, ":/@[] ") {
			return fmt.Errorf("%q is neither a DNS name nor an IP address (no port, no scheme)", host)
		}
		template.DNSNames = append(template.DNSNames, host)
	}
	return nil
}
