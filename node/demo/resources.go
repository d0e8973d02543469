package demo

import (
	_ "embed"
	"fmt"
	"strings"
	"text/template"
)

//go:embed resources.yaml
var resourcesTemplate string

// permitDocument is the policy that FinanceAgent lacks in the tour.
//
//go:embed permit.yaml
var permitDocument string

// setting is what differs between two runs of the demo.
type setting struct {
	Issuer          string
	ClientID        string
	SecretFile      string // holds the client's secret, so that no document does
	AccountingURL   string
	AccountingScope string
	CRMURL          string
	CRMScope        string
}

// resources are the documents that provision the node.
func resources(s setting) (string, error) {
	parsed, err := template.New("resources.yaml").Option("missingkey=error").Parse(resourcesTemplate)
	if err != nil {
		return "", fmt.Errorf("read the demo's resources: %w", err)
	}
	var text strings.Builder
	if err := parsed.Execute(&text, s); err != nil {
		return "", fmt.Errorf("fill in the demo's resources: %w", err)
	}
	return text.String(), nil
}
