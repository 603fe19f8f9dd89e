// How a function gets its name out of the library: each exists once for each instruction set.

#pragma once

// ISA is the name of the instruction set that a source is compiled for.
#define PASTE(isa, name) isa##_##name
#define PASTED(isa, name) PASTE(isa, name)
#define NAMED(name) PASTED(ISA, name)

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace {

constexpr int DONE = 0, UNKNOWN = 1, REFUSED = 2;

// The entry of a table that has a type's number, or null.
template <class Entry, int count> const Entry *entry_of(const Entry (&table)[count], int number) {
    for (const Entry &entry : table)
        if (entry.number == number) return &entry;
    return nullptr;
}

}  // namespace
