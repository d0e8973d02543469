package importer

import (
	"fmt"
	"strings"
)

const maxName = 31

// uniqueName makes a name that an upstream can have out of one that a server has, different from
// those taken.
func uniqueName(server string, taken map[string]bool) string {
	var b strings.Builder
	for _, r := range strings.ToLower(server) {
		if b.Len() > 2*maxName {
			break
		}
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			b.WriteRune(r)
		} else {
			b.WriteByte('-')
		}
	}
	words := strings.FieldsFunc(b.String(), func(r rune) bool { return r == '-' })
	base := strings.Join(words, "-")
	if base == "" || base[0] < 'a' {
		base = strings.TrimSuffix("mcp-"+base, "-")
	}
	name := cut(base, maxName)
	for i := 2; taken[name]; i++ {
		suffix := fmt.Sprintf("-%d", i)
		name = cut(base, maxName-len(suffix)) + suffix
	}
	taken[name] = true
	return name
}

func cut(name string, length int) string {
	return strings.TrimRight(name[:min(len(name), length)], "-")
}
