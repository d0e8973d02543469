package mcpserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// AccountingScope is the OAuth scope that the accounting server asks for.
const AccountingScope = "ledger"

// maxRows bounds one answer of query_ledger.
const maxRows = 1000

// StartAccounting serves the accounting system until ctx ends or Close is
// called: query_ledger reads, write_transaction pretends to write.
func StartAccounting(ctx context.Context, issuer string) (*Server, error) {
	return start(ctx, "accounting", issuer, AccountingScope, func(s *mcp.Server) {
		mcp.AddTool(s, &mcp.Tool{
			Name:        "query_ledger",
			Description: "Lists the newest transactions of an account.",
			Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true},
		}, queryLedger)
		mcp.AddTool(s, &mcp.Tool{
			Name:        "write_transaction",
			Description: "Books a transaction on an account.",
		}, writeTransaction)
	})
}

type ledgerQuery struct {
	Account string `json:"account" jsonschema:"operating, payroll or travel"`
	Limit   int    `json:"limit,omitempty" jsonschema:"at most so many rows, 10 if absent"`
}

type ledgerRow struct {
	ID           string `json:"id"`
	Date         string `json:"date"`
	Counterparty string `json:"counterparty"`
	Cents        int    `json:"cents" jsonschema:"amount in cents, negative when paid out"`
	Memo         string `json:"memo"`
}

// tokenHolder is whom the bearer token of a call named.
type tokenHolder struct {
	ClientID string `json:"client_id"`
	Subject  string `json:"sub"`
}

type ledgerPage struct {
	Account string      `json:"account"`
	Rows    []ledgerRow `json:"rows"`
	Caller  tokenHolder `json:"caller" jsonschema:"whom the access token of this call named"`
}

func queryLedger(_ context.Context, r *mcp.CallToolRequest, in ledgerQuery) (*mcp.CallToolResult, ledgerPage, error) {
	index, err := accountIndex(in.Account)
	if err != nil {
		return nil, ledgerPage{}, err
	}
	if in.Limit < 0 || in.Limit > maxRows {
		return nil, ledgerPage{}, fmt.Errorf("limit is %d: use 1 to %d", in.Limit, maxRows)
	}
	if in.Limit == 0 {
		in.Limit = 10
	}
	page := ledgerPage{Account: in.Account, Rows: make([]ledgerRow, in.Limit), Caller: holder(r)}
	for i := range page.Rows {
		page.Rows[i] = row(index, i)
	}
	return nil, page, nil
}

type transaction struct {
	Account string `json:"account" jsonschema:"operating, payroll or travel"`
	Amount  int    `json:"amount" jsonschema:"in cents, negative to pay out"`
	Memo    string `json:"memo"`
}

type receipt struct {
	ID      string      `json:"id"`
	Account string      `json:"account"`
	Amount  int         `json:"amount"`
	Memo    string      `json:"memo"`
	Caller  tokenHolder `json:"caller" jsonschema:"whom the access token of this call named"`
}

func writeTransaction(_ context.Context, r *mcp.CallToolRequest, in transaction) (*mcp.CallToolResult, receipt, error) {
	if _, err := accountIndex(in.Account); err != nil {
		return nil, receipt{}, err
	}
	return nil, receipt{
		ID: "T-0001", Account: in.Account, Amount: in.Amount, Memo: in.Memo, Caller: holder(r),
	}, nil
}

func holder(r *mcp.CallToolRequest) tokenHolder {
	caller := callerOf(r)
	return tokenHolder{ClientID: caller.ClientID, Subject: caller.Subject}
}

func accountIndex(account string) (int, error) {
	accounts := []string{"operating", "payroll", "travel"}
	i := slices.Index(accounts, account)
	if i < 0 {
		return 0, fmt.Errorf("no account %q: use %s", account, strings.Join(accounts, ", "))
	}
	return i, nil
}

// row is the n-th newest transaction of an account, the same in every run.
func row(account, n int) ledgerRow {
	kinds := []struct {
		counterparty, memo string
		cents              int
	}{
		{"Harbour Supplies Ltd", "rope and tar", -48250},
		{"Northgate Insurance", "monthly premium", -129900},
		{"City of Westhaven", "berth fees refunded", 31075},
		{"Lantern & Sons", "invoice settled", 912400},
		{"Old Mill Bakery", "crew breakfast", -8640},
	}
	kind := kinds[(n+2*account)%len(kinds)]
	newest := time.Date(2026, time.October, 30, 0, 0, 0, 0, time.UTC)
	return ledgerRow{
		ID:           fmt.Sprintf("L-%d%04d", account+1, 9999-n),
		Date:         newest.AddDate(0, 0, -n).Format(time.DateOnly),
		Counterparty: kind.counterparty,
		Cents:        kind.cents - 25*n,
		Memo:         kind.memo,
	}
}
