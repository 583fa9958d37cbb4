#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "moe/core/error.hpp"

namespace moe_test {

using Bytes = std::vector<std::byte>;

inline void append(Bytes& bytes, std::string_view text) {
    for (const char c : text) {
        bytes.push_back(static_cast<std::byte>(c));
    }
}

/// Eight little-endian bytes, as a safetensors file begins.
inline Bytes length_prefix(std::uint64_t length) {
    Bytes bytes;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        bytes.push_back(static_cast<std::byte>((length >> shift) & 0xFFU));
    }
    return bytes;
}

/// A file written by hand: whatever `header` says, then `data_bytes` bytes 0, 1, 2, ...
inline Bytes file_of(std::string_view header, std::size_t data_bytes = 0) {
    Bytes bytes = length_prefix(header.size());
    append(bytes, header);
    for (std::size_t i = 0; i < data_bytes; ++i) {
        bytes.push_back(static_cast<std::byte>(i & 0xFFU));
    }
    return bytes;
}

struct Caught {
    moe::ErrorCode code;
    std::string text;
};

/// The moe::Error that `action` throws, nothing if it returns.
template <class Action>
std::optional<Caught> caught(Action&& action) {
    try {
        action();
    } catch (const moe::Error& error) {
        return Caught{error.code(), error.what()};
    }
    return std::nullopt;
}

/// A new directory, removed with all it holds.
class TemporaryDirectory {
public:
    TemporaryDirectory() {
        std::random_device random;
        do {
            path_ = std::filesystem::temp_directory_path() / ("moe-io-test-" + std::to_string(random()));
        } while (!std::filesystem::create_directory(path_));
    }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    ~TemporaryDirectory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }

    std::string file(const std::string& name) const { return (path_ / name).string(); }
    std::size_t entries() const {
        std::size_t count = 0;
        for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path_)) {
            ++count;
        }
        return count;
    }

private:
    std::filesystem::path path_;
};

inline void write_file(const std::string& path, std::span<const std::byte> bytes) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

inline Bytes read_file(const std::string& path) {
    std::ifstream stream(path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
    Bytes bytes;
    append(bytes, text);
    return bytes;
}

}  // namespace moe_test
