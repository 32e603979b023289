package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/internal/pgtest"
)

// TestMain is also the relay: scripts start this binary again by the name relay. A
// link to it stands in for testscript.Main, which ends the process before pgtest
// could stop its cluster.
func TestMain(m *testing.M) {
	natstest.Main()
	if filepath.Base(os.Args[0]) == "relay" {
		main()
	}
	pgtest.Main(m)
}

// TestScripts runs what a user types, and requires what the user is told. README.md
// beside the scripts lists their commands.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Postgres and NATS")
	}
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("testdata", "script"),
		Setup:              setupScript,
		RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"contest":  onStage((*stage).contest),
			"exits":    onStage((*stage).exits),
			"says":     onStage((*stage).says),
			"start":    onStage((*stage).start),
			"signal":   onStage((*stage).signal),
			"ends":     onStage((*stage).ends),
			"ready":    onStage((*stage).ready),
			"logs":     onStage((*stage).logs),
			"get":      onStage((*stage).get),
			"canary":   onStage((*stage).canary),
			"cluster":  onStage((*stage).cluster),
			"dsn":      onStage((*stage).dsn),
			"sql":      onStage((*stage).sql),
			"until":    onStage((*stage).until),
			"nats":     onStage((*stage).nats),
			"stream":   onStage((*stage).stream),
			"receiver": onStage((*stage).receiver),
			"request":  onStage((*stage).request),
			"opentmp":  onStage((*stage).openTmp),
			"empty":    onStage((*stage).empty),
			"json":     onStage((*stage).json),
			"width":    onStage((*stage).width),
		},
	})
}
