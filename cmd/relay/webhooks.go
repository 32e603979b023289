package main

type webhooksCmd struct {
	RotateSecret webhooksRotateCmd `cmd:"" help:"Give a webhook a new signing secret; the old one stays valid for a while."`
}
