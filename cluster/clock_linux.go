package cluster

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime is the time since boot, suspend included, which Go's own monotonic clock leaves out.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // nothing is fresh on a clock that stands still at boot
	}
	return time.Duration(ts.Nano())
}
