package webhook

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

// pass lets virtual time pass, inside synctest.
func pass(d time.Duration) { <-time.After(d) }

// bench runs lanes on virtual time: every task of a subscription takes as long as
// takes says, and is settled at once.
type bench struct {
	lanes *lanes
	mu    sync.Mutex
	order map[string][]int
	most  int
	now   int
	says  map[string]answer // of endpoints; others take what they get
	hosts map[string]string // of endpoints; others have one each
}

func newBench(concurrency, perLane int, takes func(id string) time.Duration) *bench {
	b := &bench{order: map[string][]int{}, says: map[string]answer{}, hosts: map[string]string{}}
	b.lanes = newLanes(concurrency, perLane, 1000, func(t *task) answer {
		id := t.delivery.SubscriptionID
		b.mu.Lock()
		b.order[id] = append(b.order[id], t.delivery.Attempts)
		b.now++
		b.most = max(b.most, b.now)
		b.mu.Unlock()
		pass(takes(id))
		b.mu.Lock()
		b.now--
		b.mu.Unlock()
		b.lanes.settled(1)
		return b.answer(id)
	}, func(id string) string { return "https://" + b.host(id) + "/" + id })
	return b
}

// say sets how an endpoint answers.
func (b *bench) say(id string, a answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a.attempted = true
	b.says[id] = a
}

func (b *bench) answer(id string) answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a, ok := b.says[id]; ok {
		return a
	}
	return answer{attempted: true, worked: true}
}

func (b *bench) host(id string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h, ok := b.hosts[id]; ok {
		return h
	}
	return id + ".example.com"
}

func (b *bench) put(id string, n int) bool {
	_, ok := b.lanes.put(&task{delivery: relay.Delivery{SubscriptionID: id, Attempts: n}})
	return ok
}

func (b *bench) done(id string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.order[id])
}

func (b *bench) running() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bench) peak() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.most
}

// places returns the class of a lane and how many attempts each class has.
func (b *bench) places(id string) (class, [classes]int) {
	b.lanes.mu.Lock()
	defer b.lanes.mu.Unlock()
	return b.lanes.byID[id].class, b.lanes.running
}

func (b *bench) sweepEvery(d time.Duration, times int) (overdue int) {
	for range times {
		pass(d)
		tasks, _ := b.lanes.sweep()
		overdue += len(tasks)
	}
	return overdue
}

func TestLaneStartsItsTasksInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, 1, func(string) time.Duration { return time.Millisecond })
		for i := range 50 {
			require.True(t, b.put("a", i))
		}
		synctest.Wait()
		pass(time.Second)
		require.Equal(t, 50, b.done("a"))
		synctest.Wait()
		b.mu.Lock()
		defer b.mu.Unlock()
		require.IsIncreasing(t, b.order["a"])
	})
}

func TestLaneNeverExceedsItsConcurrencyNorLanesTheirs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(10, 4, func(string) time.Duration { return 100 * time.Millisecond })
		for i := range 40 {
			b.put("one", i)
		}
		synctest.Wait()
		require.Equal(t, 4, b.running())
		for i := range 400 {
			b.put(fmt.Sprint(i%20), i)
		}
		pass(time.Minute)
		require.LessOrEqual(t, b.peak(), overcommit*10)
		require.Zero(t, b.running())
	})
}

func TestFullLaneRefusesAndOthersDoNotNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, 2, func(id string) time.Duration {
			if id == "hangs" {
				return time.Minute
			}
			return time.Millisecond
		})
		accepted := 0
		for i := range 2 * mostQueue {
			if b.put("hangs", i) {
				accepted++
			}
		}
		require.Equal(t, mostQueue+2, accepted)
		require.Equal(t, []string{"hangs"}, b.lanes.busy())
		for i := range 500 {
			require.True(t, b.put("fine", i))
			pass(time.Millisecond)
		}
		pass(10 * time.Millisecond)
		require.Equal(t, 500, b.done("fine"))
		b.lanes.stop()
		pass(2 * time.Minute)
	})
}

func TestAnyNumberOfHangingEndpointsLeavesFastOnesTheirPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const concurrency = 16
		b := newBench(concurrency, 4, func(id string) time.Duration {
			if id[0] == 'h' {
				return 15 * time.Second
			}
			return 5 * time.Millisecond
		})
		for range proof {
			b.put("fine", 0)
			pass(10 * time.Millisecond)
		}
		for i := range 500 {
			for lane := range 100 {
				b.put(fmt.Sprint("h", lane), i)
			}
			require.True(t, b.put("fine", i))
			pass(10 * time.Millisecond)
			if i%50 == 0 {
				b.lanes.sweep()
			}
			require.Equal(t, proof+i+1, b.done("fine"), "the fast endpoint waits for slow ones")
			require.LessOrEqual(t, b.running(), overcommit*concurrency)
		}
		b.lanes.stop()
		pass(time.Hour)
	})
}

func TestWhatWaitsTooLongIsTakenOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, 1, func(string) time.Duration { return time.Minute })
		for i := range 10 {
			b.put("a", i)
		}
		require.Zero(t, b.sweepEvery(time.Second, 4))
		require.Equal(t, 9, b.sweepEvery(time.Second, 3))
		require.Equal(t, 0, b.lanes.load().Waiting)
		pass(time.Hour)
		require.Equal(t, 1, b.done("a"))
	})
}

func TestSlowEndpointIsFastAgainAfterItAnswersQuickly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var takes atomic.Int64
		takes.Store(int64(10 * time.Second))
		b := newBench(8, 4, func(string) time.Duration { return time.Duration(takes.Load()) })
		b.put("a", 0)
		b.sweepEvery(500*time.Millisecond, 4)
		require.Equal(t, 1, b.lanes.load().Slow)
		pass(10 * time.Second)
		takes.Store(int64(time.Millisecond))
		for i := range 100 {
			b.put("a", i)
			pass(10 * time.Millisecond)
		}
		class, running := b.places("a")
		require.Equal(t, fast, class)
		require.Equal(t, [classes]int{}, running)
		for i := range 100 {
			b.put("a", i)
		}
		synctest.Wait()
		require.Equal(t, 4, b.running())
		pass(time.Minute)
		_, running = b.places("a")
		require.Equal(t, [classes]int{}, running)
	})
}

func TestLaneHoldsWhatWillBeginInTime(t *testing.T) {
	require.Equal(t, mostQueue, (&lane{class: unproven}).capacity(4))
	require.Equal(t, slowQueue, (&lane{class: slow, latency: time.Microsecond}).capacity(4))
	require.Equal(t, mostQueue, (&lane{latency: time.Microsecond}).capacity(4))
	require.Equal(t, 1000, (&lane{latency: 20 * time.Millisecond}).capacity(4))
	require.Equal(t, leastQueue, (&lane{latency: time.Second - 1}).capacity(4))
}

func TestNoTaskBeginsWhileTooManyAreUnsettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun atomic.Int64
		l := newLanes(100, 100, 10, func(*task) answer { begun.Add(1); return answer{attempted: true, worked: true} }, func(string) string { return "" })
		for range 50 {
			l.put(&task{delivery: relay.Delivery{SubscriptionID: "a"}})
		}
		synctest.Wait()
		require.EqualValues(t, 10, begun.Load())
		require.Equal(t, 10, l.load().Unsettled)
		l.settled(5)
		synctest.Wait()
		require.EqualValues(t, 15, begun.Load())
		require.Len(t, l.stop(), 35)
	})
}

func TestIdleLanesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, 4, func(string) time.Duration { return time.Millisecond })
		for i := range 100 {
			b.put(fmt.Sprint(i), 0)
		}
		b.lanes.reap()
		require.Equal(t, 100, b.lanes.load().Lanes)
		pass(2 * laneIdle)
		b.lanes.reap()
		require.Zero(t, b.lanes.load().Lanes)
	})
}
