"""Between PyTorch and JAX: conversion of checkpoints, and the proof that both models agree."""
