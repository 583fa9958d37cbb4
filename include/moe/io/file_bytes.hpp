#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/error.hpp"
#include "../core/workspace.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI {

/// How a file's bytes come into memory.
enum class ReadMode {
    /// Mapped: nothing is copied, pages are read when first touched and shared between processes. The file must not be
    /// shortened while it is mapped: touching a page that is gone kills the process (SIGBUS), and no check made
    /// beforehand can prevent it. Replacing the file by rename, as `write_safetensors` does, is safe.
    map,
    /// Copied into memory at once: costs the file's size, and nothing that happens to the file later matters.
    read,
};

namespace detail {

/// What the operating system says about the error number `number`.
[[nodiscard]] inline std::string system_text(int number) {
    return std::error_code(number, std::generic_category()).message();
}

/// Owns an open file descriptor.
class FileDescriptor {
public:
    explicit FileDescriptor(int number) noexcept : number_(number) {}
    FileDescriptor(FileDescriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    FileDescriptor(const FileDescriptor&) = delete;
    FileDescriptor& operator=(const FileDescriptor&) = delete;
    FileDescriptor& operator=(FileDescriptor&&) = delete;
    ~FileDescriptor() { (void)close(); }

    [[nodiscard]] int get() const noexcept { return number_; }

    /// 0, or the error number of a close that failed.
    int close() noexcept {
        const int number = std::exchange(number_, -1);
        return number < 0 || ::close(number) == 0 ? 0 : errno;
    }

private:
    int number_;
};

}  // namespace detail

/// The bytes of a whole regular file, mapped or copied. Movable: a move leaves the bytes where they are.
class FileBytes {
public:
    FileBytes() = default;

    /// Throws Error(file) with the reason of the operating system, also for what is no regular file (a directory, a
    /// pipe), Error(truncated) if the file shrinks while it is read, std::bad_alloc.
    [[nodiscard]] static FileBytes open(const std::string& path, ReadMode mode) {
        // A pipe without a writer would block the call; a regular file does not care for O_NONBLOCK.
        const detail::FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
        if (file.get() < 0) {
            refuse(path, "open", errno);
        }
        struct stat facts {};
        if (::fstat(file.get(), &facts) != 0) {
            refuse(path, "inspect", errno);
        }
        if (!S_ISREG(facts.st_mode)) {
            raise_error(ErrorCode::file, "cannot read ", detail::path_in_quotes(path), ": it is ",
                        S_ISDIR(facts.st_mode) ? "a directory" : "not a regular file");
        }
        if (!std::in_range<std::size_t>(facts.st_size)) {
            refuse(path, "address", EFBIG);
        }
        FileBytes result;
        const auto size = static_cast<std::size_t>(facts.st_size);
        if (size != 0 && mode == ReadMode::map) {
            result.map(path, file, size);
        } else if (size != 0) {
            result.read(path, file, size);
        }
        return result;
    }

    FileBytes(FileBytes&& other) noexcept
        : mapping_(std::exchange(other.mapping_, nullptr)),
          copy_(std::move(other.copy_)),
          bytes_(std::exchange(other.bytes_, {})) {}
    FileBytes& operator=(FileBytes&& other) noexcept {
        std::swap(mapping_, other.mapping_);
        std::swap(copy_, other.copy_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    FileBytes(const FileBytes&) = delete;
    FileBytes& operator=(const FileBytes&) = delete;
    ~FileBytes() {
        if (mapping_ != nullptr) {
            (void)::munmap(mapping_, bytes_.size());
        }
    }

    [[nodiscard]] std::span<const std::byte> bytes() const& noexcept { return bytes_; }
    std::span<const std::byte> bytes() const&& = delete;  // temporary: give the file a name

private:
    [[noreturn]] static void refuse(const std::string& path, const char* action, int number) {
        raise_error(ErrorCode::file, "cannot ", action, " ", detail::path_in_quotes(path), ": ",
                    detail::system_text(number));
    }

    void map(const std::string& path, const detail::FileDescriptor& file, std::size_t size) {
        void* const address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
        if (address == MAP_FAILED) {  // NOLINT: the macro casts
            refuse(path, "map", errno);
        }
        mapping_ = address;
        bytes_ = {static_cast<const std::byte*>(address), size};
    }

    void read(const std::string& path, const detail::FileDescriptor& file, std::size_t size) {
        copy_ = AlignedBuffer(size);
        std::size_t done = 0;
        while (done < size) {
            const auto count = ::read(file.get(), copy_.data() + done, size - done);
            if (count < 0 && errno != EINTR) {
                refuse(path, "read", errno);
            }
            if (count == 0) {
                raise_error(ErrorCode::truncated, "cannot read ", detail::path_in_quotes(path), ": it ended after ",
                            done, " of ", size, " bytes, shortened while it was read");
            }
            done += count > 0 ? static_cast<std::size_t>(count) : 0;
        }
        bytes_ = {copy_.data(), size};
    }

    void* mapping_ = nullptr;
    AlignedBuffer copy_;
    std::span<const std::byte> bytes_;
};

}  // namespace moe::inline MOE_ABI
