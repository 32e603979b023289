package main

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/internal/pgproc"
	"github.com/dot-do/relay/internal/pgtest"
)

// stage is what a script plays on: a database of its own, processes it starts, and
// words that nothing may print.
type stage struct {
	*testscript.TestScript // of the running command

	t        testing.TB
	psql     string
	db       *pgtest.DB
	server   *natstest.Server
	relays   map[string]*background
	requests chan struct{} // at the receiver
	secrets  []string
}

type stageKey struct{}

// onStage makes a method a script command. None of them can be negated.
func onStage(f func(*stage, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("this command has no opposite")
		}
		s := ts.Value(stageKey{}).(*stage)
		s.TestScript = ts
		f(s, args)
	}
}

// setupScript gives each script a database, a slot name, and settings under which
// relays do not get into each other's way.
func setupScript(e *testscript.Env) error {
	bin := filepath.Join(e.WorkDir, ".bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Symlink(self, filepath.Join(bin, "relay")); err != nil {
		return err
	}
	postgres, err := pgproc.Find()
	if err != nil {
		return err
	}
	s := &stage{
		t: e.T().(testing.TB), psql: filepath.Join(postgres, "psql"),
		relays: map[string]*background{},
	}
	e.Values[stageKey{}] = s
	e.Defer(s.close)
	e.Setenv("PATH", bin+string(filepath.ListSeparator)+e.Getenv("PATH"))
	e.Setenv("GORACE", "atexit_sleep_ms=0")
	e.Setenv("RELAY_PG_BIN", postgres)
	e.Setenv("RELAY_LISTEN", "127.0.0.1:0")
	e.Setenv("RELAY_NATS_LISTEN", "-")
	e.Setenv("RELAY_NATS_DIR", filepath.Join(e.WorkDir, "nats"))
	e.Setenv("RELAY_DRAIN_TIMEOUT", "5s")
	e.Setenv("RELAY_LOG_FORMAT", "text") // json_log.txtar has the other
	s.useDatabase(pgtest.New(s.t), e.Setenv)
	return nil
}

func (s *stage) useDatabase(db *pgtest.DB, setenv func(key, value string)) {
	s.db = db
	u, err := url.Parse(db.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	password, _ := u.User.Password()
	s.secrets = append(s.secrets, password)
	slot := "slot_" + db.Name
	for key, value := range map[string]string{
		"DB": db.Name, "DB_URL": db.URL, "PG_ADDR": u.Host, "SLOT": slot, "ROLE": "role_" + db.Name,
		"RELAY_DATABASE_URL": db.URL, "RELAY_SLOT": slot,
	} {
		setenv(key, value)
	}
}

// close ends what the script left running, and reads it once more for secrets.
func (s *stage) close() {
	for _, p := range s.relays {
		p.kill()
		s.inspect(p.output())
	}
}

// canary TEXT...: words that may be in no output from now on.
func (s *stage) canary(args []string) { s.secrets = append(s.secrets, args...) }

var trace = regexp.MustCompile(`(?m)^panic: |^goroutine \d+ \[|WARNING: DATA RACE|\.go:\d+`)

// inspect fails the script when something is printed that no user should see.
func (s *stage) inspect(output string) {
	if found := trace.FindString(output); found != "" {
		s.t.Errorf("the output holds a trace (%s):\n%s", found, output)
	}
	for _, word := range s.secrets {
		if strings.Contains(output, word) {
			s.t.Errorf("the output holds a secret:\n%s", strings.ReplaceAll(output, word, "<SECRET>"))
		}
	}
}

// exits CODE [KEY=VALUE]... [ARG]...: runs a relay to its end, which is the code's.
func (s *stage) exits(args []string) {
	if len(args) == 0 {
		s.Fatalf("usage: exits CODE [KEY=VALUE]... [ARG]...")
	}
	var stdout, stderr bytes.Buffer
	cmd := s.command(args[1:])
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	s.Check(cmd.Start())
	slow := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait() // the code tells more
	_, _ = s.Stdout().Write(stdout.Bytes())
	_, _ = s.Stderr().Write(stderr.Bytes())
	s.inspect(stdout.String() + stderr.String())
	switch got := strconv.Itoa(cmd.ProcessState.ExitCode()); {
	case !slow.Stop():
		s.Fatalf("it does not end")
	case got != args[0]:
		s.Fatalf("exit code is %s, want %s", got, args[0])
	}
}

// command is a relay with the script's settings, and those given before its
// arguments.
func (s *stage) command(args []string) *exec.Cmd {
	var environ []string
	for _, name := range append(settingNames(reflect.TypeFor[config.Config]()), "PATH", "TMPDIR", "GORACE", "GOCOVERDIR", pgproc.BinEnv) {
		if value := s.Getenv(name); value != "" {
			environ = append(environ, name+"="+value)
		}
	}
	for len(args) > 0 && strings.Contains(args[0], "=") && !strings.HasPrefix(args[0], "-") {
		environ, args = append(environ, args[0]), args[1:]
	}
	cmd := exec.Command(filepath.Join(s.Getenv("WORK"), ".bin", "relay"), args...)
	cmd.Args[0] = "relay"
	cmd.Dir, cmd.Env = s.MkAbs("."), environ
	return cmd
}

// settingNames lists the environment variables of a struct of settings.
func settingNames(settings reflect.Type) (names []string) {
	for f := range settings.Fields() {
		switch {
		case f.Tag.Get("env") != "":
			names = append(names, f.Tag.Get("env"))
		case f.Type.Kind() == reflect.Struct:
			names = append(names, settingNames(f.Type)...)
		}
	}
	return names
}

// says PATTERN: the last command's stderr is this one line.
func (s *stage) says(args []string) {
	if len(args) != 1 {
		s.Fatalf("usage: says PATTERN")
	}
	said := s.ReadFile("stderr")
	if !regexp.MustCompile(`\A` + args[0] + `\n\z`).MatchString(said) {
		s.Fatalf("stderr is\n%s\nwant one line\n%s", said, args[0])
	}
}

// width N: no line of the last stdout is longer.
func (s *stage) width(args []string) {
	if len(args) != 1 {
		s.Fatalf("usage: width N")
	}
	limit, err := strconv.Atoi(args[0])
	s.Check(err)
	for line := range strings.Lines(s.ReadFile("stdout")) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\r\n")); n > limit {
			s.Fatalf("%d columns: %s", n, line)
		}
	}
}

// opentmp: a temporary folder that other users can enter, for a Postgres that a root
// caller starts.
func (s *stage) openTmp([]string) {
	dir, err := os.MkdirTemp("", "relay-cli-") // t.TempDir lets no other user in
	s.Check(err)
	s.Defer(func() { _ = os.RemoveAll(dir) })
	s.Check(os.Chmod(dir, 0o755))
	s.Setenv("TMPDIR", dir)
}

// empty DIR: nothing is in it.
func (s *stage) empty(args []string) {
	entries, err := os.ReadDir(args[0])
	s.Check(err)
	for _, e := range entries {
		s.Fatalf("%s holds %s", args[0], e.Name())
	}
}

// json: the last stdout is one JSON document.
func (s *stage) json([]string) {
	if !json.Valid([]byte(s.ReadFile("stdout"))) {
		s.Fatalf("stdout is not JSON")
	}
}
