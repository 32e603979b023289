package faults

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/internal/pgtest"
)

// binaryEnv names the relay binary to test, built with -tags failpoint.
const binaryEnv = "RELAY_FAULTS_BINARY"

func TestMain(m *testing.M) {
	natstest.Main()
	if os.Getenv(binaryEnv) == "" {
		os.Exit(buildAndRunAgain())
	}
	pgtest.Main(m)
}

// buildAndRunAgain builds the binary and runs the tests in a second process:
// pgtest.Main leaves no chance to remove it.
func buildAndRunAgain() int {
	dir, err := os.MkdirTemp("", "relay-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary := filepath.Join(dir, "relay")
	build := exec.Command("go", "build", "-race", "-tags", "failpoint", "-o", binary, "../../cmd/relay")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "faults: build the relay:", err)
		return 1
	}
	tests := exec.Command(os.Args[0], os.Args[1:]...)
	tests.Env = append(os.Environ(), binaryEnv+"="+binary)
	tests.Stdin, tests.Stdout, tests.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = tests.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "faults:", err)
		return 1
	}
	return 0
}

// noteSources looks at every source file of the module: the go command caches the
// results of tests by the files they looked at.
var noteSources = sync.OnceValue(func() error {
	return filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "../.." && strings.HasPrefix(entry.Name(), "."):
			return filepath.SkipDir
		case filepath.Ext(path) == ".go" && !strings.HasSuffix(path, "_test.go"), filepath.Ext(path) == ".sql":
			_, err = os.Stat(path)
		}
		return err
	})
})
