package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	metadataBytes = 256 << 10
	metadataTTL   = 10 * time.Minute
	maxIssuers    = 1024
)

// metadata is what Sallyport needs of an authorization server's metadata (RFC 8414).
type metadata struct {
	Issuer        string `json:"issuer"`
	TokenEndpoint string `json:"token_endpoint"`
}

// issuers caches authorization server metadata.
type issuers struct {
	mu    sync.Mutex // protects the following
	known map[string]knownIssuer
}

type knownIssuer struct {
	metadata
	until time.Time
}

// tokenEndpoint finds the token endpoint of an issuer.
func (i *issuers) tokenEndpoint(ctx context.Context, client *http.Client, issuer string) (string, error) {
	now := time.Now()
	i.mu.Lock()
	known, ok := i.known[issuer]
	i.mu.Unlock()
	if ok && now.Before(known.until) {
		return known.TokenEndpoint, nil
	}
	m, err := discover(ctx, client, issuer)
	if err != nil {
		return "", err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.known) >= maxIssuers {
		clear(i.known)
	}
	i.known[issuer] = knownIssuer{m, now.Add(metadataTTL)}
	return m.TokenEndpoint, nil
}

// wellKnown lists where an issuer's metadata may be, in the order that MCP fixes (2026-07-28, authorization server discovery).
func wellKnown(issuer string) ([]string, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Scheme == "" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("issuer %q is not a URL without query and fragment", issuer)
	}
	base, path := u.Scheme+"://"+u.Host, strings.TrimSuffix(u.EscapedPath(), "/")
	if path == "" {
		return []string{base + "/.well-known/oauth-authorization-server", base + "/.well-known/openid-configuration"}, nil
	}
	return []string{
		base + "/.well-known/oauth-authorization-server" + path,
		base + "/.well-known/openid-configuration" + path,
		base + path + "/.well-known/openid-configuration",
	}, nil
}

func discover(ctx context.Context, client *http.Client, issuer string) (metadata, error) {
	places, err := wellKnown(issuer)
	if err != nil {
		return metadata{}, err
	}
	var tried []error
	for _, place := range places {
		m, err := fetchMetadata(ctx, client, place)
		if err == nil {
			err = m.check(issuer)
		}
		if err == nil {
			return m, nil
		}
		tried = append(tried, fmt.Errorf("%s: %w", place, err))
	}
	return metadata{}, fmt.Errorf("find the metadata of issuer %s: %w", issuer, errors.Join(tried...))
}

func fetchMetadata(ctx context.Context, client *http.Client, place string) (metadata, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, nil)
	if err != nil {
		return metadata{}, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return metadata{}, withoutURL(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return metadata{}, fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, metadataBytes+1))
	if err != nil {
		return metadata{}, fmt.Errorf("read: %w", err)
	}
	if len(body) > metadataBytes {
		return metadata{}, fmt.Errorf("more than %d bytes", metadataBytes)
	}
	var m metadata
	if err := json.Unmarshal(body, &m); err != nil {
		return metadata{}, errors.New("not a JSON document")
	}
	return m, nil
}

// check holds the document to RFC 8414 section 3.3 and keeps a token endpoint from being plain http where the issuer is not.
func (m metadata) check(issuer string) error {
	if m.Issuer != issuer {
		return fmt.Errorf("it is of issuer %q", m.Issuer)
	}
	u, err := url.Parse(m.TokenEndpoint)
	if err != nil || u.Host == "" {
		return errors.New("it has no token_endpoint")
	}
	if u.Scheme != "https" && !strings.HasPrefix(issuer, "http://") {
		return errors.New("its token_endpoint is not https")
	}
	return nil
}

// withoutURL drops what net/http repeats of the request.
func withoutURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
