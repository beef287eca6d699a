package main

import (
	"context"
	"errors"
	"io"
	"net/http"
)

// errUnwired is what a build answers that has the frame and no services yet.
var errUnwired = errors.New("this build holds the command line alone, without the hub's services; build a later commit")

func serve(context.Context, *Process) error { return errUnwired }

func openHub(context.Context, *Process) (http.Handler, func() error, error) {
	return nil, nil, errUnwired
}

func restoreBackup(context.Context, *Process, io.Reader, bool) ([]string, error) {
	return nil, errUnwired
}
