package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long a script waits for anything.
const patience = 30 * time.Second

// background is a relay that runs beside the script.
type background struct {
	cmd   *exec.Cmd
	ports string        // its RELAY_PORT_FILE
	done  chan struct{} // closed when it has ended

	mu   sync.Mutex
	text bytes.Buffer // what it printed
}

func (b *background) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *background) output() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *background) ended() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

func (b *background) kill() {
	_ = b.cmd.Process.Kill() // it may have ended
	<-b.done
}

// start NAME [KEY=VALUE]... ARG...: a relay in the background, with a port file
// NAME.ports.
func (s *stage) start(args []string) {
	if len(args) < 2 {
		s.Fatalf("usage: start NAME ARG...")
	}
	name := args[0]
	b := &background{ports: s.MkAbs(name + ".ports"), done: make(chan struct{})}
	b.cmd = s.command(append([]string{"RELAY_PORT_FILE=" + b.ports}, args[1:]...))
	b.cmd.Stdout, b.cmd.Stderr = b, b
	_ = os.Remove(b.ports) // of an earlier life
	if old := s.relays[name]; old != nil && !old.ended() {
		s.Fatalf("%s runs already", name)
	}
	s.Check(b.cmd.Start())
	s.relays[name] = b
	go func() {
		defer close(b.done)
		_ = b.cmd.Wait() // ends reads the code
	}()
}

func (s *stage) relay(name string) *background {
	b := s.relays[name]
	if b == nil {
		s.Fatalf("no relay was started as %s", name)
	}
	return b
}

// signal NAME TERM|INT|HUP|KILL
func (s *stage) signal(args []string) {
	if len(args) != 2 {
		s.Fatalf("usage: signal NAME TERM|INT|HUP|KILL")
	}
	sig, known := map[string]syscall.Signal{
		"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL,
	}[args[1]]
	if !known {
		s.Fatalf("unknown signal %s", args[1])
	}
	s.Check(s.relay(args[0]).cmd.Process.Signal(sig))
}

// ends NAME CODE: waits for the end. What was printed is in NAME.out afterwards.
func (s *stage) ends(args []string) {
	if len(args) != 2 {
		s.Fatalf("usage: ends NAME CODE")
	}
	b := s.relay(args[0])
	select {
	case <-b.done:
	case <-time.After(patience):
		s.Fatalf("%s does not end:\n%s", args[0], b.output())
	}
	s.Logf("[%s]\n%s", args[0], b.output())
	s.inspect(b.output())
	s.Check(os.WriteFile(s.MkAbs(args[0]+".out"), []byte(b.output()), 0o600))
	if code := b.cmd.ProcessState.ExitCode(); args[1] != strconv.Itoa(code) {
		s.Fatalf("exit code is %d, want %s", code, args[1])
	}
}

// ready NAME STATE [PATTERN]: waits until /readyz tells the state and, if given, a
// reason. It sets $LISTEN to the relay's address.
func (s *stage) ready(args []string) {
	if len(args) < 2 || len(args) > 3 {
		s.Fatalf("usage: ready NAME STATE [PATTERN]")
	}
	pattern := regexp.MustCompile(strings.Join(args[2:], ""))
	last := ""
	s.wait(args[0], func() (bool, string) {
		status, body := s.ask(args[0], "/readyz")
		var answer struct{ State, Reason string }
		_ = json.Unmarshal(body, &answer) // not up yet
		last = string(body)
		fine := answer.State == "streaming" || answer.State == "standby"
		if status != 0 && fine != (status == http.StatusOK) {
			s.Fatalf("/readyz answers %d with %s", status, body)
		}
		return answer.State == args[1] && pattern.MatchString(answer.Reason), last
	})
	s.inspect(last)
	s.Setenv("LISTEN", s.address(args[0]))
}

// logs NAME PATTERN: waits until it was printed.
func (s *stage) logs(args []string) {
	if len(args) != 2 {
		s.Fatalf("usage: logs NAME PATTERN")
	}
	b, pattern := s.relay(args[0]), regexp.MustCompile("(?m)"+args[1])
	s.poll(func() (bool, string) { return pattern.MatchString(b.output()), b.output() })
}

// get NAME PATH: the answer is the stdout.
func (s *stage) get(args []string) {
	if len(args) != 2 {
		s.Fatalf("usage: get NAME PATH")
	}
	_, body := s.ask(args[0], args[1])
	_, err := s.Stdout().Write(body)
	s.Check(err)
}

// wait polls until the condition holds, and fails when the relay ends before.
func (s *stage) wait(name string, condition func() (bool, string)) {
	b := s.relay(name)
	s.poll(func() (bool, string) {
		held, state := condition()
		if !held && b.ended() {
			s.Fatalf("%s has ended:\n%s", name, b.output())
		}
		return held, state + "\n" + b.output()
	})
}

func (s *stage) poll(condition func() (held bool, state string)) {
	deadline := time.Now().Add(patience)
	for {
		held, state := condition()
		if held {
			return
		}
		if time.Now().After(deadline) {
			s.Fatalf("did not come true within %s; at last:\n%s", patience, state)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func (s *stage) address(name string) string {
	var p ports
	content, err := os.ReadFile(s.relay(name).ports)
	if err == nil {
		s.Check(json.Unmarshal(content, &p))
	} else if !errors.Is(err, os.ErrNotExist) {
		s.Check(err)
	}
	return p.Listen
}

// ask returns zeroes while the relay does not answer.
func (s *stage) ask(name, path string) (status int, body []byte) {
	address := s.address(name)
	if address == "" {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	s.Check(err)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = res.Body.Close() }()
	body, err = io.ReadAll(res.Body)
	s.Check(err)
	return res.StatusCode, body
}

// contest NAME NAME: inserts things until one of the relays has ended. $LOSER is its
// name, $WINNER the other's.
func (s *stage) contest(args []string) {
	if len(args) != 2 {
		s.Fatalf("usage: contest NAME NAME")
	}
	first, second := s.relay(args[0]), s.relay(args[1])
	s.poll(func() (bool, string) {
		s.db.Exec(`insert into things (ns, id, type) values ('contest', gen_random_uuid()::text, 'Function')`)
		return first.ended() || second.ended(), first.output() + "\n" + second.output()
	})
	loser, winner := args[0], args[1]
	if second.ended() {
		loser, winner = winner, loser
	}
	s.Setenv("LOSER", loser)
	s.Setenv("WINNER", winner)
}
