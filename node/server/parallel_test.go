package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// filler makes text of a size that only its seed has.
func filler(seed, size int) string {
	line := fmt.Sprintf("%d-", seed)
	return strings.Repeat(line, size/len(line)+1)[:size]
}

// TestParallelCallsComeBackWhole is for golang/go issue 40747: a proxy that forwards before it has read the request loses parts of answers.
func TestParallelCallsComeBackWhole(t *testing.T) {
	const calls, workers = 6000, 64
	f := start(t)
	u := scripted(t, onlyModernEra, func(w http.ResponseWriter, s *seen) {
		var p struct {
			Arguments struct {
				Seed int
				Fill string
			}
		}
		if err := json.Unmarshal(s.Params, &p); err != nil || p.Arguments.Fill != filler(p.Arguments.Seed, 300) {
			t.Errorf("the upstream got %q: %v", s.Body, err)
		}
		reply(w, s, `{"resultType":"complete","content":[{"type":"text","text":"`+filler(p.Arguments.Seed, 2000+p.Arguments.Seed%4000)+`"}]}`)
	})
	f.static("u", u.URL, "X-Api-Key", "k")
	rt := f.protocols()["HTTP/1.1"]
	seeds := make(chan int)
	var working sync.WaitGroup
	for range workers {
		working.Go(func() {
			for seed := range seeds {
				resp, err := rt.RoundTrip(f.modern("u", fmt.Sprint(seed), "t", fmt.Sprintf(`{"seed":%d,"fill":"%s"}`, seed, filler(seed, 300))))
				if err != nil {
					t.Errorf("call %d: %v", seed, err)
					continue
				}
				body, err := io.ReadAll(resp.Body)
				want := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":{"resultType":"complete","content":[{"type":"text","text":"%s"}]}}`, seed, filler(seed, 2000+seed%4000))
				if err != nil || resp.Body.Close() != nil || string(body) != want {
					t.Errorf("call %d: status %d, %d of %d bytes, %v", seed, resp.StatusCode, len(body), len(want), err)
				}
			}
		})
	}
	for seed := range calls {
		seeds <- seed
	}
	close(seeds)
	working.Wait()
	hold(t, "each call reached the upstream once", len(u.got("tools/call")) == calls, len(u.got("tools/call")))
}
