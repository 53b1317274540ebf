//! The Docker engine of this machine: the only file that talks to it.
