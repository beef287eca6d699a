// Package bridge is MQTT in and out: the listener that devices and service
// accounts connect to.
package bridge
