//go:build failpoint

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Enabled tells whether this build can fail on purpose.
const Enabled = true

type rule struct {
	action string
	left   int // passages until it acts; 0: it has
}

// rules by place, read once from the environment.
var rules = sync.OnceValue(func() map[string]*rule {
	out, err := parse(os.Getenv("RELAY_FAILPOINTS"))
	if err != nil {
		panic(err)
	}
	return out
})

var mu sync.Mutex

func parse(text string) (map[string]*rule, error) {
	out := map[string]*rule{}
	for _, field := range strings.Fields(text) {
		place, what, _ := strings.Cut(field, "=")
		action, at, numbered := strings.Cut(what, "@")
		n := 1
		if numbered {
			var err error
			if n, err = strconv.Atoi(at); err != nil || n < 1 {
				return nil, fmt.Errorf("failpoint %q: the passage is a number from 1", field)
			}
		}
		switch action {
		case "kill", "panic", "drop":
		default:
			return nil, fmt.Errorf("failpoint %q: the action is kill, panic or drop", field)
		}
		known := false
		for _, p := range Places() {
			known = known || p == place
		}
		if !known {
			return nil, fmt.Errorf("failpoint %q: there is no such place", field)
		}
		out[place] = &rule{action: action, left: n}
	}
	return out, nil
}

// Hit passes a place.
func Hit(place string) { Drop(place) }

// Drop passes a place, and tells whether to leave out what is done there.
func Drop(place string) bool {
	r := rules()[place]
	if r == nil {
		return false
	}
	mu.Lock()
	due := r.left == 1
	if r.left > 0 {
		r.left--
	}
	mu.Unlock()
	if !due {
		return false
	}
	switch r.action {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // it is delivered before long
	case "panic":
		panic("failpoint " + place)
	}
	return true
}
