package webhook

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/dot-do/relay/relay"
)

const (
	// An endpoint that has failed so often in a row, for so long, is asked by probes
	// only: one delivery at a time, after pauses that double. Fewer failures are the
	// retry schedule's business.
	tripAfter  = 20
	tripAge    = 30 * time.Second
	firstProbe = time.Second
	lastProbe  = 30 * time.Second

	// mostHold bounds how long one answer can keep the other deliveries of its endpoint
	// waiting, and mostHostHold those of other endpoints of its host. The delivery that
	// was answered so waits as long as it was told.
	mostHold     = 5 * time.Minute
	mostHostHold = time.Minute
	// hostAfter is how many endpoints of a host must ask for a pause within a minute
	// before all of them get it: one subscriber alone cannot silence the others.
	hostAfter = 2
)

// wait says for how long a task is put aside, and why when that is worth telling.
type wait struct {
	delay  time.Duration
	reason string
}

// answer is what a task showed of its endpoint.
type answer struct {
	attempted bool
	failed    bool          // the endpoint does not work: no connection, no answer in time, 5xx
	worked    bool          // it took the delivery
	hold      time.Duration // it asked to be left alone for so long
}

// answerOf judges an attempt by its outcome. A 4xx says something about one delivery:
// the endpoint is neither broken nor proven to work.
func answerOf(o *relay.Outcome) answer {
	a := o.Attempt
	out := answer{attempted: true, worked: o.Kind == relay.Delivered}
	switch FailureClass(a.Error) {
	case classTimeout, classConnect, classDNS, classTLS, classReset, classProtocol:
		out.failed = true
	case classStatus:
		out.failed = a.StatusCode >= 500 || a.StatusCode == http.StatusRequestTimeout
	}
	asked, ok := retryAfter(a)
	switch {
	case a.StatusCode == http.StatusTooManyRequests && ok:
		out.hold = asked
	case a.StatusCode == http.StatusTooManyRequests:
		out.hold = max(o.Delay, firstProbe)
	case a.StatusCode == http.StatusServiceUnavailable && ok:
		out.hold = asked
	}
	return out
}

// breaker is what a lane remembers of the failures of its endpoint.
type breaker struct {
	failures int       // in a row
	since    time.Time // of the first of them
	trips    int       // probes that failed; above 0 the endpoint is only probed
	until    time.Time // nothing is begun before
	asked    bool      // the endpoint asked for that
}

// saw takes an answer in. It reports whether the breaker opened or closed by it.
func (b *breaker) saw(a answer, now time.Time) (opened, closed bool) {
	switch {
	case a.worked:
		closed = b.trips > 0
		*b = breaker{}
	case a.failed:
		if b.failures++; b.failures == 1 {
			b.since = now
		}
		if b.failures >= tripAfter && now.Sub(b.since) >= tripAge {
			opened = b.trips == 0
			pause := min(firstProbe<<min(b.trips, 10), lastProbe)
			b.trips++
			b.until, b.asked = now.Add(pause), false
		}
	}
	if a.hold > 0 {
		if until := now.Add(min(a.hold, mostHold)); until.After(b.until) {
			b.until, b.asked = until, true
		}
	}
	return opened, closed
}

// probing reports whether the endpoint gets one delivery at a time.
func (b *breaker) probing() bool { return b.trips > 0 }

// reason says why nothing is begun.
func (b *breaker) reason() string {
	if b.asked {
		return "throttled: the endpoint asked for a pause (429, Retry-After)"
	}
	return fmt.Sprintf("circuit: the endpoint failed %d times in a row and is only probed", b.failures)
}

// host is what several lanes of one host have in common.
type host struct {
	asked map[string]time.Time // lanes that were told to wait, and when
	until time.Time            // nothing is begun before
}

// saw takes in that a lane was told to wait.
func (h *host) saw(lane string, hold time.Duration, now time.Time) {
	for id, at := range h.asked {
		if now.Sub(at) > mostHostHold {
			delete(h.asked, id)
		}
	}
	h.asked[lane] = now
	if until := now.Add(min(hold, mostHostHold)); len(h.asked) >= hostAfter && until.After(h.until) {
		h.until = until
	}
}

// hostOf is the host and port of a target URL as it is written.
func hostOf(target string) string {
	_, rest, _ := strings.Cut(target, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return strings.ToLower(rest)
}

// held tells for how long nothing of the lane is begun, 0 for not at all.
func (s *lanes) held(l *lane, now time.Time) wait {
	if l.breaker.until.IsZero() && len(s.hosts) == 0 {
		return wait{} // as almost always
	}
	until, reason := l.breaker.until, ""
	if until.After(now) {
		reason = l.breaker.reason()
	}
	if h := s.hosts[l.host]; h != nil && h.until.After(until) && h.until.After(now) {
		until, reason = h.until, "throttled: several endpoints of this host asked for a pause (429, Retry-After)"
	}
	if reason == "" {
		return wait{}
	}
	return wait{until.Sub(now), reason}
}

// admits decides about one more task for the queue of a lane in trouble. An endpoint
// that is being probed gets one at a time.
func (s *lanes) admits(l *lane, now time.Time) (w wait, ok bool) {
	s.refresh(l)
	if w = s.held(l, now); w.delay > 0 {
		// Not all of them in the same moment.
		w.delay += time.Duration(rand.Int64N(int64(min(w.delay/4, time.Second)) + 1)) //nolint:gosec // jitter
		return w, false
	}
	if l.breaker.probing() && len(l.queue)+len(l.starts) > 0 {
		return wait{firstProbe, l.breaker.reason()}, false
	}
	return wait{}, true
}

// refresh forgets what was learnt of an endpoint when the subscription points to
// another one now.
func (s *lanes) refresh(l *lane) {
	if target := s.target(l.id); target != l.target {
		l.target, l.host = target, hostOf(target)
		l.breaker = breaker{}
		delete(s.troubled, l)
	}
}

// learned takes in what an attempt showed of the endpoint.
func (s *lanes) learned(l *lane, a answer, now time.Time) {
	opened, closed := l.breaker.saw(a, now)
	if a.hold > 0 {
		h := s.hosts[l.host]
		if h == nil {
			h = &host{asked: map[string]time.Time{}}
			s.hosts[l.host] = h
		}
		h.saw(l.id, a.hold, now)
	}
	if l.breaker.probing() || l.breaker.until.After(now) {
		s.troubled[l] = struct{}{}
	} else {
		delete(s.troubled, l)
	}
	if (opened || closed) && s.turned != nil {
		s.turned(l.id, opened, l.breaker.failures)
	}
}

// probes returns the subscriptions that one delivery may be claimed of, to see
// whether their endpoint works again.
func (s *lanes) probes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var out []string
	for l := range s.troubled {
		s.refresh(l)
		if l.breaker.probing() && len(l.queue)+len(l.starts) == 0 && s.held(l, now).delay == 0 {
			out = append(out, l.id)
		}
	}
	return out
}

// forgive forgets pauses that are over.
func (s *lanes) forgive(now time.Time) {
	for l := range s.troubled {
		if !l.breaker.probing() && !l.breaker.until.After(now) {
			delete(s.troubled, l)
		}
	}
	for name, h := range s.hosts {
		if !h.until.After(now) && len(h.asked) > 0 {
			for id, at := range h.asked {
				if now.Sub(at) > mostHostHold {
					delete(h.asked, id)
				}
			}
		}
		if !h.until.After(now) && len(h.asked) == 0 {
			delete(s.hosts, name)
		}
	}
}
