package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sallyport/crypto"
	"sallyport/node/api"
	"sallyport/node/api/client"
	"sallyport/node/api/kind"
	"sallyport/node/demo/mcpserver"
)

// provision applies the demo's resources, as `sallyport apply` does.
func (s *stage) provision(ctx context.Context) error {
	text, err := resources(setting{
		Issuer: s.provider.Issuer(), ClientID: oauthClient, SecretFile: secretFile,
		AccountingURL: s.accounting.URL(), AccountingScope: mcpserver.AccountingScope,
		CRMURL: s.crm.URL(), CRMScope: mcpserver.CRMScope,
	})
	if err != nil {
		return err
	}
	if err := s.write(resourcesFile, text); err != nil {
		return err
	}
	if err := s.write(permitFile, permitDocument); err != nil {
		return err
	}
	documents, err := kind.ParseYAML(resourcesFile, []byte(text))
	if err != nil {
		return err
	}
	sources := kind.Sources{
		Env:      func(string) (string, bool) { return "", false },
		ReadFile: func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(s.dir, name)) },
	}
	for _, d := range documents {
		if err := kind.Resolve(d.Resource, sources); err != nil {
			return d.Locate(err)
		}
		if _, err := s.admin.Put(ctx, d.Resource, client.Put{}); err != nil {
			return fmt.Errorf("apply %s: %w", d.At, err)
		}
	}
	return nil
}

// newAgent is an agent with a token of its own.
func (s *stage) newAgent(ctx context.Context, name string) (agent, error) {
	issued, err := s.admin.IssueToken(ctx, api.TokenRequest{Agent: name, TTL: kind.Duration(24 * time.Hour)})
	if err != nil {
		return agent{}, fmt.Errorf("issue a token for %s: %w", name, err)
	}
	return agent{
		name: name, token: crypto.SecretString(issued.Text), tokenID: issued.ID,
		gateway: s.node.URL(), http: s.network,
	}, nil
}

// Revoke implements gateway.
func (s *stage) Revoke(ctx context.Context, tokenID string) error {
	_, err := s.admin.Revoke(ctx, api.RevocationRequest{Kind: "token", ID: tokenID, Reason: "shown in the demo"})
	return err
}

var errNoRecord = errors.New("the audit has no such record")

// Audit implements gateway. It asks until there is an answer, for the outcome
// of a call is recorded after its caller has got the end of the answer.
func (s *stage) Audit(ctx context.Context, q client.AuditQuery) (api.AuditRecord, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errNoRecord)
	defer cancel()
	again := time.NewTicker(auditPause)
	defer again.Stop()
	for {
		found, err := s.admin.SearchAudit(ctx, q)
		switch {
		case len(found) > 0:
			return found[len(found)-1], nil
		case err != nil && ctx.Err() == nil:
			return api.AuditRecord{}, fmt.Errorf("search the audit: %w", err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return api.AuditRecord{}, context.Cause(ctx)
		}
	}
}
