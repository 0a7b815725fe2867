export LIVESYNC_DB=file://$PWD/notes.fs LIVESYNC_HOST=notes.livesync_host:NotesHost
livesync agent add index --type sqlite -o path=$PWD/index.sqlite
livesync agent add_task index --interval 1m
livesync agent export index
