// Package session is the one door through which devices come in. Whatever a
// device speaks (channels over WebSocket or long-poll, MQTT, HTTP), its
// transport opens a [Session] here, hands it every event that the device
// sends, and is handed, through its [Link], everything that the device is
// meant to hear. So what a device may say, how fast, and what it is answered
// is decided once, and the same on every transport.
//
// A transport translates: frames into [Session.Handle], replies and pushes
// back into frames, the codes of [devices.Error] into its own.
package session
