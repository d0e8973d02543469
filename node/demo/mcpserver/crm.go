package mcpserver

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// CRMScope is the OAuth scope that the customer database asks for.
const CRMScope = "customers"

const (
	customerURI         = "crm://customers/"
	customerURITemplate = customerURI + "{id}"
)

// StartCRM serves the customer database until ctx ends or Close is called:
// the tools get_customer and search_customers, every record also as resource
// crm://customers/{id}, and the prompt draft_reply.
func StartCRM(ctx context.Context, issuer string) (*Server, error) {
	return start(ctx, "crm", issuer, CRMScope, func(s *mcp.Server) {
		mcp.AddTool(s, &mcp.Tool{
			Name:        "get_customer",
			Description: "Reads everything known about one customer.",
			Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true},
		}, getCustomer)
		mcp.AddTool(s, &mcp.Tool{
			Name:        "search_customers",
			Description: "Finds customers by a part of their name, email address or notes.",
			Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true},
		}, searchCustomers)
		s.AddResourceTemplate(&mcp.ResourceTemplate{
			Name:        "customer",
			Description: "The record of one customer.",
			MIMEType:    "application/json",
			URITemplate: customerURITemplate,
		}, readCustomer)
		s.AddPrompt(&mcp.Prompt{
			Name:        "draft_reply",
			Description: "Asks for a reply to a customer's last message.",
			Arguments:   []*mcp.PromptArgument{{Name: "id", Description: "customer number", Required: true}},
		}, draftReply)
	})
}

type record struct {
	ID       string   `json:"id"`
	Customer customer `json:"customer"`
	Payment  payment  `json:"payment"`
	Notes    string   `json:"notes"`
}

type customer struct {
	Name  string `json:"name"`
	Email string `json:"email"`
	Phone string `json:"phone"`
	SSN   string `json:"ssn"`
}

type payment struct {
	Card string `json:"card"`
	IBAN string `json:"iban"`
}

// customers have numbers that pass every format check and belong to nobody:
// example.com addresses, 555-01xx telephones, social security numbers voided
// for having been printed in advertisements, card numbers for testing, and
// the example IBANs of their registry.
func customers() []record {
	return []record{
		{
			ID: "C-1001",
			Customer: customer{
				Name: "Ada Marlowe", Email: "ada.marlowe@example.com",
				Phone: "+1 202-555-0143", SSN: "078-05-1120",
			},
			Payment: payment{Card: "4111 1111 1111 1111", IBAN: "DE89 3704 0044 0532 0130 00"},
			Notes:   "Prefers ada.m@example.org at weekends. Confirmed SSN 078-05-1120 by telephone.",
		},
		{
			ID: "C-1002",
			Customer: customer{
				Name: "Bruno Castellan", Email: "bruno@example.net",
				Phone: "+1 202-555-0178", SSN: "219-09-9999",
			},
			Payment: payment{Card: "5555 5555 5555 4444", IBAN: "GB29 NWBK 6016 1331 9268 19"},
			Notes:   "Wants invoices on paper.",
		},
		{
			ID: "C-1003",
			Customer: customer{
				Name: "Chiyo Lindqvist", Email: "chiyo.lindqvist@example.com",
				Phone: "+1 202-555-0112", SSN: "721-07-4426",
			},
			Payment: payment{Card: "3782 822463 10005", IBAN: "FR14 2004 1010 0505 0001 3M02 606"},
			Notes:   "Call +1 202-555-0199 if the line is busy.",
		},
	}
}

func find(id string) (record, error) {
	all := customers()
	i := slices.IndexFunc(all, func(r record) bool { return r.ID == id })
	if i < 0 {
		return record{}, fmt.Errorf("no customer %q: there are C-1001, C-1002 and C-1003", id)
	}
	return all[i], nil
}

type customerID struct {
	ID string `json:"id" jsonschema:"customer number, such as C-1001"`
}

func getCustomer(_ context.Context, _ *mcp.CallToolRequest, in customerID) (*mcp.CallToolResult, record, error) {
	found, err := find(in.ID)
	return nil, found, err
}

type customerQuery struct {
	Query string `json:"query" jsonschema:"any part of a name, email address or note"`
}

type matches struct {
	Customers []record `json:"customers"`
}

func searchCustomers(_ context.Context, _ *mcp.CallToolRequest, in customerQuery) (*mcp.CallToolResult, matches, error) {
	query := strings.ToLower(in.Query)
	found := slices.DeleteFunc(customers(), func(r record) bool {
		text := strings.ToLower(r.Customer.Name + "\n" + r.Customer.Email + "\n" + r.Notes)
		return !strings.Contains(text, query)
	})
	return nil, matches{Customers: found}, nil
}

func readCustomer(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	uri := r.Params.URI
	found, err := find(strings.TrimPrefix(uri, customerURI))
	if err != nil {
		return nil, mcp.ResourceNotFoundError(uri)
	}
	text, err := json.Marshal(found)
	if err != nil {
		return nil, fmt.Errorf("encode customer %s: %w", found.ID, err)
	}
	return &mcp.ReadResourceResult{
		Contents: []*mcp.ResourceContents{{URI: uri, MIMEType: "application/json", Text: string(text)}},
	}, nil
}

func draftReply(_ context.Context, r *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
	found, err := find(r.Params.Arguments["id"])
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("Write a short, friendly reply to %s <%s>. Keep in mind: %s",
		found.Customer.Name, found.Customer.Email, found.Notes)
	return &mcp.GetPromptResult{
		Description: "Reply to " + found.Customer.Name,
		Messages:    []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: text}}},
	}, nil
}
