#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <vector>

#include "io/support.hpp"

/// GGUF files written by hand, byte by byte, so that anything can be wrong with them.
namespace moe_test::raw_gguf {

/// The bytes of a number, little-endian.
template <class Number>
std::string number(Number value) {
    static_assert(std::endian::native == std::endian::little);
    return {reinterpret_cast<const char*>(&value), sizeof value};
}
inline std::string u32(std::uint32_t value) { return number(value); }
inline std::string u64(std::uint64_t value) { return number(value); }

/// A string behind its length.
inline std::string text(const std::string& value) { return u64(value.size()) + value; }

/// An entry of the metadata: key, number of the type, and the bytes of the value.
inline std::string entry(const std::string& key, std::uint32_t type, const std::string& value) {
    return text(key) + u32(type) + value;
}
inline std::string u32_entry(const std::string& key, std::uint32_t value) { return entry(key, 4, u32(value)); }
inline std::string array_entry(const std::string& key, std::uint32_t type, std::uint64_t count,
                               const std::string& elements) {
    return entry(key, 9, u32(type) + u64(count) + elements);
}

/// The description of a tensor; `ne` as the file has it, the fastest dimension first.
inline std::string tensor(const std::string& name, std::initializer_list<std::uint64_t> ne, std::uint32_t type,
                          std::uint64_t offset) {
    std::string result = text(name) + u32(static_cast<std::uint32_t>(ne.size()));
    for (const std::uint64_t extent : ne) {
        result += u64(extent);
    }
    return result + u32(type) + u64(offset);
}

/// The beginning of a file.
inline std::string head(std::uint64_t n_tensors, std::uint64_t n_values, std::uint32_t version = 3) {
    return "GGUF" + u32(version) + u64(n_tensors) + u64(n_values);
}

inline std::string padded(std::string bytes, std::size_t alignment = 32) {
    bytes.append((alignment - bytes.size() % alignment) % alignment, '\0');
    return bytes;
}

/// Bytes 0, 1, 2, ..., as many as asked for.
inline std::string data(std::size_t size) {
    std::string result;
    for (std::size_t i = 0; i < size; ++i) {
        result += static_cast<char>(i & 0xFFU);
    }
    return result;
}

/// A file of these entries and descriptions, counted right, and of `data`.
inline Bytes file(const std::vector<std::string>& entries, const std::vector<std::string>& tensors,
                  const std::string& data_bytes = {}, std::size_t alignment = 32) {
    std::string result = head(tensors.size(), entries.size());
    for (const std::string& one : entries) {
        result += one;
    }
    for (const std::string& one : tensors) {
        result += one;
    }
    Bytes bytes;
    append(bytes, padded(std::move(result), alignment) + data_bytes);
    return bytes;
}

inline Bytes bytes_of(const std::string& text_of_file) {
    Bytes bytes;
    append(bytes, text_of_file);
    return bytes;
}

}  // namespace moe_test::raw_gguf
