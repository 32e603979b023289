package webhook

import (
	"net/http"
	"strconv"
	"time"

	"github.com/dot-do/relay/relay"
)

const (
	maxBackoff    = time.Hour
	maxRetryAfter = 24 * time.Hour
	minRetryDelay = 100 * time.Millisecond // also when the schedule says 0: no busy loop
	jitterShare   = 0.2
)

// Reasons of Outcome.Reason.
const (
	reasonExhausted = "exhausted"
	reasonGone      = "gone"
)

// retryPolicy turns an attempt into what becomes of its delivery. It is pure: the
// random number comes from the caller, and no clock is asked.
type retryPolicy struct {
	// schedule, when not empty, wins over the subscription's own backoff. Its last
	// value repeats.
	schedule []time.Duration
}

// outcome decides. random is in [0, 1).
func (p retryPolicy) outcome(d relay.Delivery, sub *relay.Subscription, a *relay.Attempt, random float64) relay.Outcome {
	d.Attempts = a.Number
	out := relay.Outcome{Delivery: d, Attempt: a}
	switch {
	case a.Error == "" && a.StatusCode >= 200 && a.StatusCode < 300:
		out.Kind = relay.Delivered
	case a.StatusCode == http.StatusGone:
		out.Kind, out.Reason = relay.Gone, reasonGone
	case a.Number > sub.MaxRetries:
		out.Kind, out.Reason = relay.Dead, reasonExhausted
	default:
		out.Kind, out.Delay = relay.Retry, p.delay(sub, a, random)
	}
	return out
}

// delay is the time until the attempt after a. What the endpoint asked for with
// Retry-After is never undercut, and never shortens the schedule.
func (p retryPolicy) delay(sub *relay.Subscription, a *relay.Attempt, random float64) time.Duration {
	delay := p.planned(sub.Backoff, a.Number)
	delay += time.Duration(float64(delay) * jitterShare * (2*random - 1))
	if asked, ok := retryAfter(a); ok && asked > delay {
		// A little later each: a hundred deliveries were told the same second.
		delay = asked + time.Duration(float64(min(asked, time.Minute))*jitterShare*random)
	}
	return max(delay, minRetryDelay)
}

// planned is the delay after attempt n, counted from 1, before jitter.
func (p retryPolicy) planned(backoff time.Duration, n int) time.Duration {
	if len(p.schedule) > 0 {
		return p.schedule[min(max(n, 1), len(p.schedule))-1]
	}
	if backoff <= 0 {
		return 0
	}
	for ; n > 1 && backoff < maxBackoff; n-- {
		backoff *= 2
	}
	return min(backoff, maxBackoff)
}

// retryAfter reads the Retry-After header of a response: seconds or an HTTP date.
// A date counts from the response's own Date where there is one, so that no
// clock has to agree with another. Garbage and the past mean nothing was asked.
func retryAfter(a *relay.Attempt) (time.Duration, bool) {
	text := a.ResponseHeaders["retry-after"]
	if text == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseUint(text, 10, 63); err == nil {
		if seconds >= uint64(maxRetryAfter/time.Second) {
			return maxRetryAfter, true
		}
		return time.Duration(seconds) * time.Second, true
	}
	if len(text) > 19 && onlyDigits(text) { // more seconds than fit into a number
		return maxRetryAfter, true
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0, false
	}
	now, err := http.ParseTime(a.ResponseHeaders["date"])
	if err != nil {
		now = a.StartedAt.Add(a.Duration)
	}
	wait := at.Sub(now)
	return min(wait, maxRetryAfter), wait > 0
}

func onlyDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
