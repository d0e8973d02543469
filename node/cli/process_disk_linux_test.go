package cli_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/node/api"
	"sallyport/node/api/client"
)

// smallDisk makes a file system of 48 MiB, as far as this user may; ok tells. It is in a mount namespace of this goroutine's thread and
// what it starts, so that the kernel takes it away with them, whatever happens to the test.
func smallDisk(t *testing.T) (dir string, ok bool) {
	t.Helper()
	dir = t.TempDir()
	runtime.LockOSThread() // for good: the thread ends with the test
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		t.Logf("no mount namespace (%v): what a full disk does is left to the tests of cluster and audit", err)
		return "", false
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Logf("no private mounts (%v): what a full disk does is left to the tests of cluster and audit", err)
		return "", false
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=48m"); err != nil {
		t.Logf("no file system (%v): what a full disk does is left to the tests of cluster and audit", err)
		return "", false
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir, true
}

// fill writes a file until so many bytes are free.
func fill(t *testing.T, dir string, leave uint64) (path string) {
	t.Helper()
	path = filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for {
		var st syscall.Statfs_t
		if err := syscall.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		free := st.Bavail * uint64(st.Bsize)
		if free <= leave {
			return path
		}
		if _, err := f.Write(block[:min(uint64(len(block)), free-leave)]); err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
}

// becomes waits until the node says of itself that it is ready, or that it is not.
func (n *node) becomes(rt http.RoundTripper, want int) (body string) {
	n.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for limit := within(n.t); ; {
		r, err := http.NewRequestWithContext(limit, http.MethodGet, n.url+"/readyz", nil)
		if err != nil {
			n.t.Fatal(err)
		}
		resp, err := rt.RoundTrip(r)
		if err != nil {
			n.t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			n.t.Fatal(err)
		}
		if resp.StatusCode == want {
			return string(text)
		}
		select {
		case <-tick.C:
		case <-limit.Done():
			n.t.Fatalf("/readyz stays at %d: %s", resp.StatusCode, text)
		}
	}
}

func (n *node) calls(t *testing.T, rt http.RoundTripper, token, want string) {
	t.Helper()
	status, body, err := exchange(rt, n.message(t, token, "tools/call", "echo", `{"n":"1"}`))
	if err != nil || !strings.Contains(body, want) {
		t.Errorf("a call is answered with status %d, %v: %s; want %s", status, err, body, want)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk, ok := smallDisk(t)
	if !ok {
		return
	}
	s := newServer(t)
	n := newNode(t)
	n.dir = filepath.Join(disk, "data")
	n.start()
	first, second, third := n.serve(s), n.issue("A"), n.issue("A")
	rt, admin := n.web(), n.admin()
	n.calls(t, rt, first, `"done"`)
	before := len(s.counts())

	// The reserve is reached: only what ends access goes on.
	ballast := fill(t, disk, 1<<20)
	if body := n.becomes(rt, http.StatusServiceUnavailable); !strings.Contains(body, "disk") {
		t.Errorf("/readyz does not say why: %s", body)
	}
	n.calls(t, rt, first, "cannot be recorded")
	var refused *client.Error
	if _, err := admin.Put(within(t), agent("B", "r"), client.Put{}); !errors.As(err, &refused) || refused.Status != http.StatusInsufficientStorage && refused.Status != http.StatusServiceUnavailable {
		t.Errorf("a change is answered with %v", err)
	}
	if _, err := admin.Revoke(within(t), api.RevocationRequest{Kind: "token", ID: second.ID}); err != nil {
		t.Errorf("a revocation on a nearly full disk: %v", err)
	}
	if status, _, err := exchange(rt, n.message(t, second.Text, "tools/call", "echo", `{}`)); err != nil || status != http.StatusUnauthorized {
		t.Errorf("a revoked token is answered with %d, %v", status, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	n.becomes(rt, http.StatusOK)
	n.calls(t, rt, first, `"done"`)
	n.put(agent("B", "r"))

	// Somebody else takes the last byte: the node stays up, and what it could not write it writes when there is room.
	ballast = fill(t, disk, 0)
	n.becomes(rt, http.StatusServiceUnavailable)
	n.calls(t, rt, first, `"error"`)
	full := n.announces("the disk is full")
	waiting := make(chan error, 1)
	go func() {
		nobody := api.RevocationRequest{Kind: "agent", ID: "nobody", Reason: strings.Repeat("x", 250)}
		for {
			// Each fills the log, until one has to wait for room.
			if _, err := admin.Revoke(within(t), nobody); !client.IsNotFound(err) {
				waiting <- err
				return
			}
			select {
			case <-full:
				waiting <- nil
				return
			default:
			}
		}
	}()
	n.says("the disk is full")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	n.says("there is room on the disk again")
	if err := <-waiting; err != nil && (!errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable) {
		t.Errorf("a revocation on a full disk is answered with %v", err)
	}
	n.becomes(rt, http.StatusOK)
	n.calls(t, rt, first, `"done"`)
	if _, err := admin.Revoke(within(t), api.RevocationRequest{Kind: "token", ID: third.ID}); err != nil {
		t.Errorf("a revocation when there is room again: %v", err)
	}
	if status, _, err := exchange(rt, n.message(t, third.Text, "tools/call", "echo", `{}`)); err != nil || status != http.StatusUnauthorized {
		t.Errorf("a revoked token is answered with %d, %v", status, err)
	}
	if seen := s.counts()[`{"n":"1"}`]; seen != before+2 {
		t.Errorf("the upstream saw %d calls, of which %d were not refused", seen, before+2)
	}
	n.stop()
	n.start()
	n.stop()
}
