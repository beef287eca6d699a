package token_test

import (
	"errors"
	"fmt"
	"time"

	"devicehub/hub/token"
)

func Example() {
	signer, err := token.New("a secret key base that both programs know, 64 bytes or more of it", "user auth")
	if err != nil {
		fmt.Println(err)
		return
	}
	tok, err := signer.Sign(map[string]any{"id": 42}, token.SignedAt(time.Now().Add(-time.Hour)))
	if err != nil {
		fmt.Println(err)
		return
	}
	data, err := signer.Verify(tok)
	fmt.Println(data, err)
	_, err = signer.Verify(tok, token.Within(time.Minute))
	fmt.Println(errors.Is(err, token.ErrExpired))
	// Output:
	// map[id:42] <nil>
	// true
}

// A page of the Elixir program knows its session's token; a foreign one sends the cookie alone.
func ExampleSessions() {
	sessions, err := token.NewSessions("a secret key base that both programs know, 64 bytes or more of it", "signing salt", "encryption salt")
	if err != nil {
		fmt.Println(err)
		return
	}
	session := map[string]any{"user": "ann"}
	csrf := token.NewCSRF(session)
	cookie, err := sessions.Write(session)
	if err != nil {
		fmt.Println(err)
		return
	}
	known, err := sessions.Open(cookie, csrf)
	fmt.Println(known["user"], err)
	_, err = sessions.Open(cookie, "")
	fmt.Println(errors.Is(err, token.ErrInvalid))
	// Output:
	// ann <nil>
	// true
}
