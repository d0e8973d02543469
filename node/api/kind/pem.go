package kind

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"sallyport/crypto"
)

func checkCertificates(text string) error {
	if len(text) > maxValueBytes {
		return errors.New("is larger than 64 KiB")
	}
	rest := []byte(text)
	for n := 0; ; n++ {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		switch {
		case block == nil && n == 0:
			return errors.New("holds no PEM: it begins with -----BEGIN CERTIFICATE-----")
		case block == nil && strings.TrimSpace(string(rest)) != "":
			return fmt.Errorf("holds something else after %d certificates", n)
		case block == nil:
			return nil
		case block.Type != "CERTIFICATE":
			return fmt.Errorf("holds a %s: certificates only", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d does not parse: %w", n+1, err)
		}
	}
}

// checkPrivateKey never says anything about the key but what it is.
func checkPrivateKey(key crypto.Secret, algorithm string) error {
	if len(key.Expose()) > maxValueBytes {
		return errors.New("is larger than 64 KiB")
	}
	block, rest := pem.Decode(key.Expose())
	if block == nil || strings.TrimSpace(string(rest)) != "" {
		return errors.New("is not one private key in PEM, which begins with -----BEGIN PRIVATE KEY-----")
	}
	private, err := parsePrivateKey(block)
	if err != nil {
		return err
	}
	var fits []string
	switch k := private.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < 2048 {
			return fmt.Errorf("is an RSA key of %d bits: 2048 are the least", k.N.BitLen())
		}
		fits = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PrivateKey:
		switch k.Params().BitSize {
		case 256:
			fits = []string{"ES256"}
		case 384:
			fits = []string{"ES384"}
		case 521:
			fits = []string{"ES512"}
		}
	case ed25519.PrivateKey:
		fits = []string{"EdDSA"}
	}
	if len(fits) == 0 {
		return errors.New("is of a sort that no algorithm signs with: use RSA, P-256, P-384, P-521 or Ed25519")
	}
	for _, a := range fits {
		if algorithm == "" || algorithm == a {
			return nil
		}
	}
	return fmt.Errorf("does not fit algorithm %s: it signs with %s", algorithm, strings.Join(fits, ", "))
}

func parsePrivateKey(block *pem.Block) (any, error) {
	var private any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		private, err = x509.ParseECPrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("is encrypted: give the key in clear, the node seals it")
	default:
		return nil, fmt.Errorf("is a %s, not a private key", block.Type)
	}
	if err != nil {
		return nil, errors.New("is damaged: the PEM holds no private key")
	}
	return private, nil
}
