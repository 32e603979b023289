package webhook

import (
	"slices"
	"sync"
	"time"

	"github.com/dot-do/relay/relay"
)

// Bounds of lanes.
const (
	mostQueue  = 1024            // waiting in a lane, at most
	leastQueue = 64              // that may wait in any lane that is not slow
	slowQueue  = 16              // waiting in a lane whose endpoint is slow
	maxWait    = 5 * time.Second // in a lane, before a delivery is put aside
	slowAfter  = time.Second     // an endpoint that takes longer is slow
	proof      = 16              // answers until a lane's speed is known
	laneIdle   = time.Minute     // without work, before a lane is forgotten
	// before what is known of an endpoint that fails is forgotten
	troubleIdle = 10 * time.Minute
)

// task is one delivery on its way through a lane.
type task struct {
	delivery relay.Delivery
	flight   *flight // the event it came with; nil for a claim
	lease    string  // the claim it came from; empty for a first attempt
	queued   time.Time
	begun    bool      // it was given to run and counts as unsettled
	counted  time.Time // the hour whose quota it is counted in; zero for none
}

// lane is the queue of one subscription's endpoint. The lanes' mutex guards it.
type lane struct {
	id      string
	queue   []*task
	starts  []time.Time // of the attempts under way
	ready   bool        // stands in a ready list
	class   class
	latency time.Duration // usual time of an attempt
	answers int           // so far, counted up to proof
	aside   int           // tasks put aside since the last answer
	used    time.Time     // when the last task came or went
	target  string        // the endpoint's URL
	host    string
	breaker breaker
}

// capacity is how many tasks may wait: as many as will begin within maxWait. An
// endpoint that has not shown its speed may get a burst; should it hang, that is
// found out within slowAfter.
func (l *lane) capacity(concurrency int) int {
	switch l.class {
	case slow:
		return slowQueue
	case unproven:
		return mostQueue
	default:
		return min(max(int(maxWait/l.latency)*concurrency, leastQueue), mostQueue)
	}
}

// putAside counts a task that the lane has no room for and tells when it may be
// tried again: later, the longer the endpoint keeps its lane full.
func (l *lane) putAside() wait {
	l.aside++
	return wait{delay: min(time.Second+time.Duration(l.aside/leastQueue)*500*time.Millisecond, maxWait)}
}

// class is what is known of an endpoint's speed. Each class has its own
// goroutines, so endpoints that hang, however many, leave those that are known to
// be fast their full concurrency.
type class int

// Classes in the order in which they are served.
const (
	fast class = iota
	unproven
	slow
	classes
)

// Goroutines at most, as multiples of the concurrency. Attempts that turn out to
// be slow give up their places, not their goroutines: these are the bounds of
// that. Fast lanes have a higher one, so that the others cannot use it up.
const (
	overcommit     = 4
	overcommitFast = 8
)

// lanes schedules tasks: in order within a lane, in turn between lanes.
type lanes struct {
	concurrency  int // attempts under way in each class
	perLane      int
	maxUnsettled int
	run          func(*task) answer
	target       func(id string) string                     // where a subscription points to
	turned       func(id string, opened bool, failures int) // a breaker opened or closed; may be nil

	mu        sync.Mutex
	byID      map[string]*lane
	active    map[*lane]struct{} // those with a task
	troubled  map[*lane]struct{} // those that are held or probed
	hosts     map[string]*host   // those that asked for a pause
	ready     [classes][]*lane   // those that can start a task
	running   [classes]int       // attempts under way, by their lane's present class
	waiting   int
	unsettled int // tasks begun and not yet settled
	stopped   bool
	workers   sync.WaitGroup
}

// turn is a task in the hands of a goroutine.
type turn struct {
	task  *task
	lane  *lane
	began time.Time
}

func newLanes(concurrency, perLane, maxUnsettled int, run func(*task) answer, target func(id string) string) *lanes {
	return &lanes{
		concurrency: concurrency, perLane: perLane, maxUnsettled: maxUnsettled, run: run, target: target,
		byID: map[string]*lane{}, active: map[*lane]struct{}{}, troubled: map[*lane]struct{}{}, hosts: map[string]*host{},
	}
}

func (s *lanes) lane(id string) *lane {
	l := s.byID[id]
	if l == nil {
		l = &lane{id: id, class: unproven, used: time.Now(), target: s.target(id)}
		l.host = hostOf(l.target)
		s.byID[id] = l
	}
	return l
}

// put queues a task. It answers false, and for how long to put the task aside,
// when its lane is full.
func (s *lanes) put(t *task) (aside wait, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lane(t.delivery.SubscriptionID)
	if aside, ok := s.admits(l, time.Now()); !ok {
		return aside, false
	}
	if s.stopped || len(l.queue) >= l.capacity(s.perLane) {
		return l.putAside(), false
	}
	t.queued = time.Now()
	l.used = t.queued
	l.queue = append(l.queue, t)
	s.active[l] = struct{}{}
	s.waiting++
	s.enlist(l)
	s.start()
	return wait{}, true
}

// settled tells that n tasks that had begun are settled.
func (s *lanes) settled(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsettled -= n
	s.start()
}

// busy returns the subscriptions whose lanes have no room.
func (s *lanes) busy() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for l := range s.active {
		if len(l.queue) >= l.capacity(s.perLane) {
			out = append(out, l.id)
		}
	}
	now := time.Now()
	for l := range s.troubled {
		if s.refresh(l); l.breaker.probing() || s.held(l, now).delay > 0 {
			out = append(out, l.id)
		}
	}
	return out
}

func (s *lanes) limit(l *lane) int {
	if l.class == slow || l.breaker.probing() {
		return 1
	}
	return s.perLane
}

// enlist puts the lane into the ready list of its class when it can start a task.
func (s *lanes) enlist(l *lane) {
	if !l.ready && len(l.queue) > 0 && len(l.starts) < s.limit(l) && s.held(l, time.Now()).delay == 0 {
		l.ready = true
		s.ready[l.class] = append(s.ready[l.class], l)
	}
}

// start hands ready tasks to new goroutines.
func (s *lanes) start() {
	for {
		t, ok := s.pick()
		if !ok {
			return
		}
		s.workers.Add(1)
		go s.work(t)
	}
}

// work runs a task, then whatever is ready, until nothing is.
func (s *lanes) work(t turn) {
	defer s.workers.Done()
	for ok := true; ok; {
		a := s.run(t.task)
		s.mu.Lock()
		s.finish(t, a)
		t, ok = s.pick()
		s.mu.Unlock()
	}
}

// pick takes the next task: of the fast lanes first, each lane in its turn.
func (s *lanes) pick() (turn, bool) {
	for c := s.startable(); c < classes; c = s.startable() {
		l := s.ready[c][0]
		s.ready[c][0] = nil
		s.ready[c] = s.ready[c][1:]
		l.ready = false
		if l.class != c || len(l.queue) == 0 || len(l.starts) >= s.limit(l) || s.held(l, time.Now()).delay > 0 {
			s.enlist(l) // it changed while it stood in the list
			continue
		}
		t := turn{task: l.queue[0], lane: l, began: time.Now()}
		l.queue[0] = nil
		l.queue = l.queue[1:]
		l.starts = append(l.starts, t.began)
		t.task.begun = true
		s.waiting--
		s.unsettled++
		s.running[c]++
		s.enlist(l)
		return t, true
	}
	return turn{}, false
}

// startable returns the first class with a lane that stands ready and a place for
// its task, or classes.
func (s *lanes) startable() class {
	if s.stopped || s.unsettled >= s.maxUnsettled {
		return classes
	}
	for c := range classes {
		bound := overcommit
		if c == fast {
			bound = overcommitFast
		}
		if len(s.ready[c]) > 0 && s.running[c] < s.concurrency && s.total() < bound*s.concurrency {
			return c
		}
	}
	return classes
}

func (s *lanes) total() int { return s.running[fast] + s.running[unproven] + s.running[slow] }

// finish frees a task's place and learns from how long its attempt took.
func (s *lanes) finish(t turn, a answer) {
	l, now := t.lane, time.Now()
	if i := slices.Index(l.starts, t.began); i >= 0 {
		l.starts = slices.Delete(l.starts, i, i+1)
	}
	s.running[l.class]--
	l.used = now
	if a.attempted {
		l.aside = 0
		l.learn(max(now.Sub(t.began), time.Microsecond))
		s.learned(l, a, now)
	}
	s.classify(l)
	s.enlist(l)
	if len(l.queue) == 0 && len(l.starts) == 0 {
		delete(s.active, l)
	}
}

// learn leans to the quick answers: what took long once, a connect or a pause,
// hardly counts. Endpoints that hang are found by sweep.
func (l *lane) learn(took time.Duration) {
	l.answers = min(l.answers+1, proof)
	switch {
	case l.latency == 0:
		l.latency = took
	case took > l.latency:
		l.latency += (took - l.latency) / 32
	default:
		l.latency -= (l.latency - took) / 4
	}
}

// classify moves a lane, with its attempts under way, to the class that its
// latency shows. A slow lane is fast again at half the bound.
func (s *lanes) classify(l *lane) {
	is, bound := fast, slowAfter
	if l.class == slow {
		bound = slowAfter / 2
	}
	switch {
	case l.latency >= bound:
		is = slow
	case l.answers < proof:
		is = unproven
	}
	s.running[l.class] -= len(l.starts)
	s.running[is] += len(l.starts)
	l.class = is
}

// sweep finds endpoints that hang before they answer, so that they give up their
// places, and takes out the tasks that waited too long or are more than a slow
// lane may hold. It is to be called a few times a second.
func (s *lanes) sweep() (overdue []*task, aside []wait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.forgive(now)
	for l := range s.active {
		if w := s.held(l, now); w.delay > 0 {
			for _, t := range l.queue {
				overdue, aside = append(overdue, t), append(aside, w)
			}
			s.waiting -= len(l.queue)
			l.queue = nil
		}
		if len(l.starts) > 0 {
			l.latency = max(l.latency, oldest(l.starts, now))
		}
		s.classify(l)
		for len(l.queue) > 0 && now.Sub(l.queue[0].queued) > maxWait {
			overdue, aside = append(overdue, l.queue[0]), append(aside, l.putAside())
			l.queue[0] = nil
			l.queue = l.queue[1:]
			s.waiting--
		}
		for l.class == slow && len(l.queue) > slowQueue {
			last := len(l.queue) - 1
			overdue, aside = append(overdue, l.queue[last]), append(aside, l.putAside())
			l.queue[last] = nil
			l.queue = l.queue[:last]
			s.waiting--
		}
		if len(l.queue) == 0 && len(l.starts) == 0 {
			delete(s.active, l)
		}
		s.enlist(l)
	}
	s.start()
	return overdue, aside
}

// oldest is the age of the longest running attempt, when it is worth knowing.
func oldest(starts []time.Time, now time.Time) time.Duration {
	var age time.Duration
	for _, t := range starts {
		age = max(age, now.Sub(t))
	}
	if age < slowAfter {
		return 0
	}
	return age
}

// reap forgets the lanes that had no work for a while.
func (s *lanes) reap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for id, l := range s.byID {
		_, active := s.active[l]
		_, troubled := s.troubled[l]
		if !active && now.Sub(l.used) > laneIdle && (!troubled || now.Sub(l.used) > troubleIdle) {
			delete(s.byID, id)
			delete(s.troubled, l)
		}
	}
}

// stop starts no task any more and returns those that wait. What runs, runs on.
func (s *lanes) stop() []*task {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	var left []*task
	for l := range s.active {
		left = append(left, l.queue...)
		l.queue = nil
	}
	s.waiting = 0
	return left
}

// load tells what is held.
func (s *lanes) load() Load {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Load{Lanes: len(s.byID), Waiting: s.waiting, Running: s.total(), Unsettled: s.unsettled, Open: len(s.troubled)}
	for l := range s.active {
		if l.class == slow {
			out.Slow++
		}
	}
	out.Unsettled -= out.Running
	return out
}
