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

// protectedBy asks an upstream for the issuer that it trusts, by its protected resource metadata at the well-known places (RFC 9728 section 3).
func protectedBy(ctx context.Context, client *http.Client, resource string) (issuer string, err error) {
	u, err := url.Parse(resource)
	if err != nil {
		return "", fmt.Errorf("read the upstream's URL: %w", err)
	}
	origin := u.Scheme + "://" + u.Host
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	const wellKnown = "/.well-known/oauth-protected-resource"
	places := []struct{ at, resource string }{{origin + wellKnown + path, origin + path}}
	if path != "" {
		places = append(places, struct{ at, resource string }{origin + wellKnown, origin})
	}
	var tried []error
	for _, place := range places {
		var m struct {
			Resource string   `json:"resource"`
			Servers  []string `json:"authorization_servers"`
		}
		switch err := fetchJSON(ctx, client, place.at, &m); {
		case err != nil:
			tried = append(tried, fmt.Errorf("%s: %w", place.at, err))
		case strings.TrimSuffix(m.Resource, "/") != place.resource:
			tried = append(tried, fmt.Errorf("%s: it is of resource %q", place.at, m.Resource))
		case len(m.Servers) == 0:
			tried = append(tried, fmt.Errorf("%s: it names no authorization server", place.at))
		case u.Scheme == "https" && !strings.HasPrefix(m.Servers[0], "https://"):
			tried = append(tried, fmt.Errorf("%s: its authorization server is not https", place.at))
		default:
			return m.Servers[0], nil
		}
	}
	return "", fmt.Errorf("find who issues tokens for the upstream: %w: set spec.credential.issuer", errors.Join(tried...))
}

func fetchMetadata(ctx context.Context, client *http.Client, place string) (m metadata, err error) {
	return m, fetchJSON(ctx, client, place, &m)
}

func fetchJSON(ctx context.Context, client *http.Client, place string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, metadataBytes+1))
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if len(body) > metadataBytes {
		return fmt.Errorf("more than %d bytes", metadataBytes)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return errors.New("not a JSON document")
	}
	return nil
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
