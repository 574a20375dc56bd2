"""The `tulle` command. Each word lies in a module of its own, imported when the word is used.

main     the words, and how errors end
words    groups of words, and what is said to one that is none
store    which store a command speaks to
rundir   where tulled's socket is, for words that need no more
output   tables for people, JSON for programs
"""
