package deploy_test

import (
	"testing"

	"github.com/dot-do/relay/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
