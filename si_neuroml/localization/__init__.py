"""Where did this spike come from, and how sure are we? Localizers of spikes."""
