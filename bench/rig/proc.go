package rig

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// hertz is the unit of processor time in /proc: USER_HZ, which is 100 on Linux.
const hertz = 100

// CPUOf is the processor time that a process has used so far, in steps of 10 ms.
func CPUOf(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("processor time of process %d, which needs Linux: %w", pid, err)
	}
	// The second field is a name in parentheses, which may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	user, err := strconv.ParseInt(string(fields[11]), 10, 64)
	system, err2 := strconv.ParseInt(string(fields[12]), 10, 64)
	return time.Duration(user+system) * time.Second / hertz, errors.Join(err, err2)
}

// PeakOf is the most memory that a process ever held: VmHWM, in MiB.
func PeakOf(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("memory of process %d, which needs Linux: %w", pid, err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status tells no VmHWM", pid)
}

// Busy is the time that all cores together have worked so far.
func Busy() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(first) // cpu user nice system idle iowait irq softirq steal …
	if len(fields) < 8 {
		return 0, fmt.Errorf("/proc/stat begins with %q", first)
	}
	total := int64(0)
	for _, i := range []int{1, 2, 3, 6, 7} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return time.Duration(total) * time.Second / hertz, nil
}

// Meter knows how busy the machine is beside what is measured.
type Meter struct {
	at        time.Time
	busy, own time.Duration
}

// NewMeter begins to measure.
func NewMeter() (Meter, error) {
	m := Meter{at: time.Now()}
	var err, err2 error
	m.busy, err = Busy()
	m.own, err2 = CPUOf(os.Getpid())
	return m, errors.Join(err, err2)
}

// Others is how many cores worked for somebody else since NewMeter: neither for this
// process nor for those that used the given time.
func (m Meter) Others(measured time.Duration) (float64, error) {
	now, err := NewMeter()
	used := now.busy - m.busy - (now.own - m.own) - measured
	return max(0, used.Seconds()/now.at.Sub(m.at).Seconds()), err
}
