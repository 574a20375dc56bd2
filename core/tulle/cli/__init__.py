"""The `tulle` command. Each word lies in a module of its own, imported when the word is used.

main     the words, and how errors end
store    which store a command speaks to
output   tables for people, JSON for programs
"""
