package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// use is what a process has taken.
type use struct {
	cpu float64 // seconds, user and system
	rss float64 // MB
}

// processUse reads /proc (proc(5)); false when there is no such process.
func processUse(pid int) (use, bool) {
	if pid <= 0 {
		return use{}, false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return use{}, false
	}
	// The name in parentheses may hold anything; fields count from after it.
	_, rest, ok := bytes.Cut(stat, []byte(") "))
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 22 {
		return use{}, false
	}
	const ticks = 100 // USER_HZ, the same on every architecture that Go runs on
	utime, _ := strconv.ParseFloat(fields[11], 64)
	stime, _ := strconv.ParseFloat(fields[12], 64)
	pages, _ := strconv.ParseFloat(fields[21], 64)
	return use{cpu: (utime + stime) / ticks, rss: pages * float64(os.Getpagesize()) / (1 << 20)}, true
}
