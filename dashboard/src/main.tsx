import './styles/index.css'
import { render } from 'preact'
import { App } from './app'
import { start } from './state/session'

void start()
render(<App />, document.getElementById('app')!)
