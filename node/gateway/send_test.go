package gateway

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sallyport/cluster"
	"sallyport/node/identity"
	"sallyport/node/upstream"
)

// TestWithoutEndpoint keeps the reasons that are answered in a way of their own, and nothing of where tokens are issued.
func TestWithoutEndpoint(t *testing.T) {
	for _, own := range []error{identity.ErrRevoked, identity.ErrExpired, cluster.ErrStale, upstream.ErrNoCredential} {
		if got := withoutEndpoint(fmt.Errorf("wait: %w", own)); !errors.Is(got, own) {
			t.Errorf("%v became %v", own, got)
		}
	}
	refused := &upstream.RefusedError{Status: 401, Code: "invalid_client"}
	for _, err := range []error{errors.New("https://login.example is down"), fmt.Errorf("ask https://login.example: %w", refused)} {
		if got := withoutEndpoint(err).Error(); strings.Contains(got, "login.example") {
			t.Errorf("the caller is told %q", got)
		}
	}
}
