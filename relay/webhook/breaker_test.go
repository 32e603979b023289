package webhook

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

// failFor lets an endpoint fail once a second.
func (b *bench) failFor(id string, seconds int) {
	b.say(id, answer{failed: true})
	for i := range seconds {
		b.put(id, i)
		pass(time.Second)
	}
}

func TestAnEndpointThatKeepsFailingIsOnlyProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, 4, func(string) time.Duration { return time.Millisecond })
		b.failFor("dead", 32)
		synctest.Wait()
		require.Equal(t, 31, b.done("dead"), "20 failures over 30 seconds open the breaker")
		require.Contains(t, b.lanes.busy(), "dead")
		require.True(t, b.put("healthy", 1), "others are not concerned")

		// One probe after each pause, and the pauses double up to their bound.
		var gaps []time.Duration
		last := time.Now()
		for len(gaps) < 7 {
			pass(100 * time.Millisecond)
			b.lanes.sweep()
			if len(b.lanes.probes()) == 0 {
				continue
			}
			require.True(t, b.put("dead", 1))
			require.False(t, b.put("dead", 2), "one at a time")
			synctest.Wait()
			pass(2 * time.Millisecond)
			gaps = append(gaps, time.Since(last).Round(time.Second))
			last = time.Now()
		}
		require.Equal(t, []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second}, gaps[1:])

		// It comes back: the probe closes the breaker and everything may go.
		b.say("dead", answer{worked: true})
		pass(31 * time.Second)
		require.True(t, b.put("dead", 1))
		synctest.Wait()
		pass(2 * time.Millisecond)
		require.Empty(t, b.lanes.busy())
		for i := range 10 {
			require.True(t, b.put("dead", i))
		}
		synctest.Wait()
		pass(time.Second)
	})
}

func TestFewFailuresInAShortTimeOpenNoBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, 4, func(string) time.Duration { return time.Millisecond })
		b.say("a", answer{failed: true})
		for i := range 500 { // all within a second
			require.True(t, b.put("a", i))
			pass(2 * time.Millisecond)
		}
		pass(time.Minute)
		b.failFor("b", 29) // for long, and not often enough in a row
		b.say("b", answer{worked: true})
		require.True(t, b.put("b", 1))
		pass(time.Second)
		b.failFor("b", 19)
		require.True(t, b.put("b", 1))
		synctest.Wait()
		pass(time.Second)
	})
}

func TestRefusalsOfSingleDeliveriesOpenNoBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, 4, func(string) time.Duration { return time.Millisecond })
		b.say("picky", answer{}) // 4xx
		for i := range 100 {
			require.True(t, b.put("picky", i))
			pass(time.Second)
		}
	})
}

func TestAnEndpointThatAsksForAPauseGetsItAndItsHostWhenAnotherAsksToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, 4, func(string) time.Duration { return time.Millisecond })
		for _, id := range []string{"a", "b", "c"} {
			b.hosts[id] = "hooks.example.com"
			require.True(t, b.put(id, 1))
		}
		pass(time.Second)
		b.say("a", answer{hold: 10 * time.Second})
		b.say("b", answer{hold: 24 * time.Hour})
		for i := range 10 {
			b.put("a", i)
		}
		pass(100 * time.Millisecond)
		aside, ok := b.lanes.put(&task{delivery: relay.Delivery{SubscriptionID: "a"}})
		require.False(t, ok)
		require.InDelta(t, 10*time.Second, aside.delay, float64(2*time.Second))
		require.Contains(t, aside.reason, "429")
		require.True(t, b.put("c", 2), "one subscriber cannot silence the others of its host")
		overdue := b.sweepEvery(time.Millisecond, 1)
		require.Positive(t, overdue, "what waited in the lane is put aside")

		b.put("b", 1)
		pass(100 * time.Millisecond)
		aside, ok = b.lanes.put(&task{delivery: relay.Delivery{SubscriptionID: "c"}})
		require.False(t, ok, "two can")
		require.LessOrEqual(t, aside.delay, mostHostHold+time.Second, "but not for long")
		require.True(t, b.put("elsewhere", 1))
		pass(mostHostHold + time.Second)
		require.True(t, b.put("c", 3))
		require.False(t, b.put("b", 1), "an absurd pause is bounded, but longer")
		pass(mostHold)
		b.say("b", answer{worked: true})
		require.True(t, b.put("b", 1))
		b.lanes.sweep()
		pass(mostHostHold)
		b.lanes.sweep()
		require.Empty(t, b.lanes.hosts)
		require.Empty(t, b.lanes.troubled)
		synctest.Wait()
	})
}

func TestAnotherTargetURLIsAnotherEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, 4, func(string) time.Duration { return time.Millisecond })
		b.failFor("moved", 32)
		require.True(t, b.put("moved", 1), "a probe")
		pass(time.Millisecond)
		synctest.Wait()
		require.False(t, b.put("moved", 1))
		b.hosts["moved"] = "new.example.com"
		b.say("moved", answer{worked: true})
		require.NotContains(t, b.lanes.busy(), "moved")
		require.True(t, b.put("moved", 1))
		synctest.Wait()
		pass(time.Second)
	})
}

func TestEndpointsOfOneHostShareItFairly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, 4, func(string) time.Duration { return 10 * time.Millisecond })
		for i := range 20 {
			b.hosts[fmt.Sprint("e", i)] = "one.example.com"
		}
		for n := range 500 {
			b.put("e0", n)
		}
		for i := 1; i < 20; i++ {
			b.put(fmt.Sprint("e", i), 1)
		}
		pass(100 * time.Millisecond)
		for i := 1; i < 20; i++ {
			require.Equal(t, 1, b.done(fmt.Sprint("e", i)), "five hundred of the first do not go before one of another")
		}
		synctest.Wait()
		pass(10 * time.Second)
	})
}

func TestAnAnswerSaysWhatItShowsOfTheEndpoint(t *testing.T) {
	attempt := func(code int, err string, retryAfter string) *relay.Attempt {
		a := &relay.Attempt{Number: 1, StatusCode: code, Error: err}
		if retryAfter != "" {
			a.ResponseHeaders = map[string]string{"retry-after": retryAfter}
		}
		return a
	}
	for name, test := range map[string]struct {
		attempt *relay.Attempt
		kind    relay.OutcomeKind
		want    answer
	}{
		"success":                 {attempt(204, "", ""), relay.Delivered, answer{worked: true}},
		"server error":            {attempt(500, describeStatus(500), ""), relay.Retry, answer{failed: true}},
		"redirect":                {attempt(302, describeStatus(302), ""), relay.Retry, answer{}},
		"refused":                 {attempt(422, describeStatus(422), ""), relay.Retry, answer{}},
		"request timeout":         {attempt(408, describeStatus(408), ""), relay.Retry, answer{failed: true}},
		"no connection":           {attempt(0, "connect: connection refused", ""), relay.Dead, answer{failed: true}},
		"blocked by the guard":    {attempt(0, "blocked: address is not public", ""), relay.Retry, answer{}},
		"too many":                {attempt(429, describeStatus(429), ""), relay.Retry, answer{hold: 7 * time.Second}},
		"too many, and how long":  {attempt(429, describeStatus(429), "30"), relay.Retry, answer{hold: 30 * time.Second}},
		"too many, and the past":  {attempt(429, describeStatus(429), "-3"), relay.Retry, answer{hold: 7 * time.Second}},
		"unavailable for a while": {attempt(http.StatusServiceUnavailable, describeStatus(503), "30"), relay.Retry, answer{failed: true, hold: 30 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			test.want.attempted = true
			o := relay.Outcome{Kind: test.kind, Attempt: test.attempt, Delay: 7 * time.Second}
			require.Equal(t, test.want, answerOf(&o))
		})
	}
}

func TestTheHostOfATargetIsFoundWithoutParsing(t *testing.T) {
	for target, want := range map[string]string{
		"https://Hooks.example.com/a/b?c#d": "hooks.example.com", "http://h:8080": "h:8080", "https://h?x": "h", "": "", "nonsense": "",
	} {
		require.Equal(t, want, hostOf(target), target)
	}
}
